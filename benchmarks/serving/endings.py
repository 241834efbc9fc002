"""The end of a server under load: by one signal, by two, and without any chance to tidy up."""

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.client import Client, request
from benchmarks.serving.intrusions import REQUESTS
from benchmarks.serving.processes import ServerProcess, kill_orphans, start_megavit
from benchmarks.serving.schedule import Reply, statuses
from benchmarks.serving.upheavals import LoadGenerator, Scenario

TIMES = 5
BEFORE_SECONDS = 1.5
HEAD_START = 0.3


async def _end_server(
    server: ServerProcess, signals: Sequence[signal.Signals]
) -> tuple[list[Reply], list[Reply], float, int]:
    """Replies to what was asked before the first signal, and after; seconds until its end; orphans."""
    processes = server.processes()
    async with LoadGenerator(server) as load:
        await asyncio.sleep(BEFORE_SECONDS)
        signaled_at = time.perf_counter()
        for signal_number in signals:
            server.process.send_signal(signal_number)
            await asyncio.sleep(HEAD_START if len(signals) > 1 else 0)
        while server.process.poll() is None:
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - signaled_at
    before_signal = [reply for reply in load.replies if reply.sent < signaled_at]
    return (
        before_signal,
        [reply for reply in load.replies if reply.sent >= signaled_at],
        seconds,
        kill_orphans(processes),
    )


async def _end_repeatedly(bundle: Path, folder: Path, signals: Sequence[signal.Signals]) -> dict[str, Any]:
    before_signal: list[Reply] = []
    after_signal: list[Reply] = []
    codes, seconds, orphan_count = [], [], 0
    for _ in range(TIMES):
        with start_megavit(bundle, folder) as server:
            replies, refused, end_seconds, orphans_left = await _end_server(server, signals)
            before_signal += replies
            after_signal += refused
            orphan_count += orphans_left
            seconds.append(end_seconds)
            codes.append(server.process.returncode)
    return {
        "requests": len(before_signal),
        "answered": sum(reply.status == 200 for reply in before_signal),
        "statuses": statuses(before_signal),
        "asked_after": statuses(after_signal),
        "exit_codes": sorted(set(codes)),
        "slowest_end_s": round(max(seconds), 2),
        "orphans": orphan_count,
        "times": TIMES,
    }


async def terminated(bundle: Path, folder: Path) -> dict[str, Any]:
    row = await _end_repeatedly(bundle, folder, [signal.SIGTERM])
    return row | {"lost": row["requests"] - row["answered"]}


async def interrupted(bundle: Path, folder: Path) -> dict[str, Any]:
    row = await _end_repeatedly(bundle, folder, [signal.SIGINT])
    return row | {"lost": row["requests"] - row["answered"]}


async def second_signal(bundle: Path, folder: Path) -> dict[str, Any]:
    """While a request that takes long is being answered: a form whose images all want an explanation."""
    end_seconds, orphan_count, codes = [], 0, []
    image = REQUESTS[0].partition(b"\r\n\r\n")[2]
    for _ in range(TIMES):
        with start_megavit(bundle, folder) as server:
            processes = server.processes()
            async with Client(server.port) as client:
                slow_requests = [
                    asyncio.create_task(client.ask(request("/predict?explanation=true", image))) for _ in range(100)
                ]
                await asyncio.sleep(HEAD_START)
                server.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(HEAD_START)
                started = time.perf_counter()
                was_draining = server.process.poll() is None
                server.process.send_signal(signal.SIGTERM)
                while server.process.poll() is None:
                    await asyncio.sleep(0.005)
                end_seconds.append(time.perf_counter() - started)
                codes.append(server.process.returncode)
                await asyncio.gather(*slow_requests)
            orphan_count += kill_orphans(processes)
            if not was_draining:
                raise RuntimeError("the server exited before the second signal: it had too little to do")
    return {
        "exit_codes": sorted(set(codes)),
        "slowest_end_s": round(max(end_seconds), 3),
        "orphans": orphan_count,
        "times": TIMES,
    }


async def killed(bundle: Path, folder: Path) -> dict[str, Any]:
    """With SIGKILL: nobody is answered, but no process may be left."""
    return await _end_repeatedly(bundle, folder, [signal.SIGKILL])


ENDINGS: dict[str, Scenario] = {
    "SIGTERM under load, 5 times": terminated,
    "SIGINT under load, 5 times": interrupted,
    "second signal, 5 times": second_signal,
    "server killed, 5 times": killed,
}
