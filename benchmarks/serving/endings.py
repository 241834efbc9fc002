"""The end of a server under load: by one signal, by two, and without any chance to tidy up."""

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.client import Client, request
from benchmarks.serving.intrusions import REQUESTS
from benchmarks.serving.processes import Served, orphans, ours
from benchmarks.serving.schedule import Reply, statuses
from benchmarks.serving.upheavals import Crowd, Upheaval

TIMES = 5
BEFORE_SECONDS = 1.5
HEAD_START = 0.3


async def _ended(server: Served, numbers: Sequence[signal.Signals]) -> tuple[list[Reply], list[Reply], float, int]:
    """Replies to what was asked before the first signal, and after; seconds until its end; orphans."""
    before = server.processes()
    async with Crowd(server) as crowd:
        await asyncio.sleep(BEFORE_SECONDS)
        reported = time.perf_counter()
        for number in numbers:
            server.process.send_signal(number)
            await asyncio.sleep(HEAD_START if len(numbers) > 1 else 0)
        while server.process.poll() is None:
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - reported
    earlier = [reply for reply in crowd.replies if reply.sent < reported]
    return earlier, [reply for reply in crowd.replies if reply.sent >= reported], seconds, orphans(before)


async def _ends(bundle: Path, folder: Path, numbers: Sequence[signal.Signals]) -> dict[str, Any]:
    earlier: list[Reply] = []
    later: list[Reply] = []
    codes, seconds, left = [], [], 0
    for _ in range(TIMES):
        with ours(bundle, folder) as server:
            answered, refused, taken, orphaned = await _ended(server, numbers)
            earlier, later, left = earlier + answered, later + refused, left + orphaned
            seconds.append(taken)
            codes.append(server.process.returncode)
    return {
        "requests": len(earlier),
        "answered": sum(reply.status == 200 for reply in earlier),
        "statuses": statuses(earlier),
        "asked_after": statuses(later),
        "exit_codes": sorted(set(codes)),
        "slowest_end_s": round(max(seconds), 2),
        "orphans": left,
        "times": TIMES,
    }


async def terminated(bundle: Path, folder: Path) -> dict[str, Any]:
    row = await _ends(bundle, folder, [signal.SIGTERM])
    return row | {"lost": row["requests"] - row["answered"]}


async def interrupted(bundle: Path, folder: Path) -> dict[str, Any]:
    row = await _ends(bundle, folder, [signal.SIGINT])
    return row | {"lost": row["requests"] - row["answered"]}


async def second_signal(bundle: Path, folder: Path) -> dict[str, Any]:
    """While a request that takes long is being answered: a form whose images all want an explanation."""
    ended, left, codes = [], 0, []
    image = REQUESTS[0].partition(b"\r\n\r\n")[2]
    for _ in range(TIMES):
        with ours(bundle, folder) as server:
            before = server.processes()
            async with Client(server.port) as client:
                long = [
                    asyncio.create_task(client.ask(request("/predict?explanation=true", image))) for _ in range(100)
                ]
                await asyncio.sleep(HEAD_START)
                server.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(HEAD_START)
                began = time.perf_counter()
                waited = server.process.poll() is None
                server.process.send_signal(signal.SIGTERM)
                while server.process.poll() is None:
                    await asyncio.sleep(0.005)
                ended.append(time.perf_counter() - began)
                codes.append(server.process.returncode)
                await asyncio.gather(*long)
            left += orphans(before)
            if not waited:
                raise RuntimeError("the server had ended before the second signal: there was too little to do")
    return {"exit_codes": sorted(set(codes)), "slowest_end_s": round(max(ended), 3), "orphans": left, "times": TIMES}


async def killed(bundle: Path, folder: Path) -> dict[str, Any]:
    """With SIGKILL: nobody is answered, but no process may be left."""
    return await _ends(bundle, folder, [signal.SIGKILL])


ENDINGS: dict[str, Upheaval] = {
    "SIGTERM under load, 5 times": terminated,
    "SIGINT under load, 5 times": interrupted,
    "second signal, 5 times": second_signal,
    "server killed, 5 times": killed,
}
