"""Faults of what answers, under load: there is too much of it, its process is killed, its bundle is replaced."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.serving.client import Client, closed_loop, open_loop
from benchmarks.serving.intrusions import REQUESTS
from benchmarks.serving.processes import ServerProcess, is_alive, kill_orphans, start_megavit
from benchmarks.serving.schedule import Reply, milliseconds, percentile, poisson, statuses
from megavit.runtime.storage import new_folder
from megavit.weights.bundle.bundle import copy_bundle, load_bundle

CLIENTS, TIMES = 16, 20
TIMEOUT_SECONDS = 60.0
FLOOD_TIMES, FLOOD_SECONDS = 10.0, 3.0
MAX_SENT_PER_SECOND = 2_500.0
Scenario = Callable[[Path, Path], Awaitable[dict[str, Any]]]


class LoadGenerator:
    """Clients that ask without end, and what they were told."""

    def __init__(self, server: ServerProcess) -> None:
        self._server, self._finished = server, asyncio.Event()
        self.replies: list[Reply] = []

    async def _ask(self, client: Client) -> None:
        while not self._finished.is_set():
            self.replies.append(await client.ask(REQUESTS[len(self.replies) % len(REQUESTS)]))
            if not self.replies[-1].status:
                await asyncio.sleep(0.01)

    async def __aenter__(self) -> "LoadGenerator":
        self._client = Client(self._server.port)
        self._tasks = [asyncio.create_task(self._ask(self._client)) for _ in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._finished.set()
        await asyncio.gather(*self._tasks)

    async def wait_for(self, predicate: Callable[[Reply], bool]) -> float:
        """Seconds until a reply that is asked for from now on is so.

        Raises:
            RuntimeError: where there is none.
        """
        started = time.perf_counter()
        seen = len(self.replies)
        while time.perf_counter() - started < TIMEOUT_SECONDS:
            await asyncio.sleep(0.01)
            new, seen = self.replies[seen:], len(self.replies)
            if any(reply.sent > started and predicate(reply) for reply in new):
                return time.perf_counter() - started
        raise RuntimeError(f"no such reply within {TIMEOUT_SECONDS} s; the last one: {self.replies[-1]}")


def _row(replies: list[Reply], server: ServerProcess, seconds: list[float]) -> dict[str, Any]:
    return {
        "requests": len(replies),
        "answered": sum(reply.status > 0 for reply in replies),
        "lost": sum(reply.status != 200 for reply in replies),
        "statuses": statuses(replies),
        "p99_ms": milliseconds(percentile([reply.done - reply.sent for reply in replies], 0.99)),
        "slowest_ms": milliseconds(max(reply.done - reply.sent for reply in replies)),
        "healthy": server.healthy(),
        "times": len(seconds),
        "slowest_change_s": round(max(seconds), 2),
    }


async def killed(bundle: Path, folder: Path) -> dict[str, Any]:
    """The worker, with SIGKILL, 20 times; the next time once it answers again."""
    seconds = []
    with start_megavit(bundle, folder) as server:
        async with LoadGenerator(server) as load:
            await load.wait_for(lambda reply: reply.status == 200)
            for _ in range(TIMES):
                worker = server.worker()
                worker.kill()
                while is_alive(worker):
                    await asyncio.sleep(0.005)
                seconds.append(await load.wait_for(lambda reply: reply.status == 200))
                await asyncio.sleep(0.3)
        row = _row(load.replies, server, seconds) | {"restarts": TIMES}
        return row | {"orphans": server.stop()[1]}


async def replaced(bundle: Path, folder: Path) -> dict[str, Any]:
    """The bundle, by one with other labels, and back, 20 times, as training writes it."""
    info = load_bundle(bundle).info
    names = [[f"{label} {letter}" for label in info.labels] for letter in "ab"]
    sources = [folder / "a", folder / "b"]
    for source, labels in zip(sources, names, strict=True):
        copy_bundle(bundle, source, replace(info, labels=labels))
    served = folder / "served"
    shutil.copytree(sources[0], served)
    seconds = []
    with start_megavit(served, folder) as server:
        async with LoadGenerator(server) as load:
            await load.wait_for(lambda reply: reply.status == 200)
            for turn in range(1, TIMES + 1):
                with new_folder(served) as new:
                    shutil.copytree(sources[turn % 2], new, dirs_exist_ok=True)
                expected = names[turn % 2]
                seconds.append(await load.wait_for(lambda reply, expected=expected: _label(reply) in expected))
        row = _row(load.replies, server, seconds)
        known = {label for labels in names for label in labels}
        row["answers_of_neither"] = sum(_label(reply) not in known for reply in load.replies)
        return row | {"orphans": server.stop()[1]}


async def replaced_by_damaged(bundle: Path, folder: Path) -> dict[str, Any]:
    """The bundle replaced by one that cannot be loaded: the old one goes on."""
    served = folder / "spoilt"
    shutil.copytree(bundle, served)
    with start_megavit(served, folder) as server:
        async with LoadGenerator(server) as load:
            await load.wait_for(lambda reply: reply.status == 200)
            with new_folder(served) as new:
                shutil.copytree(bundle, new, dirs_exist_ok=True)
                weights = new / "model.safetensors"
                weights.write_bytes(weights.read_bytes()[:-9])
            await asyncio.sleep(6)
            seconds = [await load.wait_for(lambda reply: reply.status == 200)]
        row = _row(load.replies, server, seconds)
        return row | {"orphans": server.stop()[1]}


async def replaced_by_endless(bundle: Path, folder: Path) -> dict[str, Any]:
    """The bundle replaced by one whose weights are a hole of 1 TB, its process killed, and a good one put back."""
    served = folder / "endless"
    shutil.copytree(bundle, served)
    with start_megavit(served, folder) as server:
        async with LoadGenerator(server) as load:
            await load.wait_for(lambda reply: reply.status == 200)
            worker = server.worker()
            with new_folder(served) as new:
                shutil.copytree(bundle, new, dirs_exist_ok=True)
                os.truncate(new / "model.safetensors", 2**40)
            await _wait_until(lambda: len(server.processes()) > 2)
            loading = max(server.processes()[1:], key=lambda process: process.pid)
            await asyncio.sleep(3)
            loading.suspend()  # whatever it does with such a file, now it never finishes
            seconds = [await load.wait_for(lambda reply: reply.status == 200)]
        before = load.replies
        worker.kill()
        with new_folder(served) as new:
            shutil.copytree(bundle, new, dirs_exist_ok=True)
        started = time.perf_counter()
        try:
            await _wait_until(lambda: not server.healthy())
            await _wait_until(server.healthy)
            seconds.append(time.perf_counter() - started)
        except TimeoutError:
            seconds.append(float("inf"))
        row = _row(before, server, seconds)
        return row | {"orphans": server.stop(seconds=20)[1]}


async def killed_while_loading(bundle: Path, folder: Path) -> dict[str, Any]:
    """The server, by SIGKILL, while a worker loads: it may not go on by itself."""
    served, orphan_count, seconds = folder / "loading", 0, []
    for index in range(5):
        shutil.copytree(bundle, served / str(index))
        with start_megavit(served / str(index), folder) as server:
            with new_folder(served / str(index)) as new:
                shutil.copytree(bundle, new, dirs_exist_ok=True)
            await _wait_until(lambda server=server: len(server.processes()) > 2)
            await asyncio.sleep(0.2 * index)
            before = server.processes()
            started = time.perf_counter()
            server.process.kill()
            server.process.wait()
            orphan_count += kill_orphans(before)
            seconds.append(time.perf_counter() - started)
    return {"times": 5, "orphans": orphan_count, "slowest_change_s": round(max(seconds), 2)}


async def _wait_until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not predicate():
            await asyncio.sleep(0.02)


async def flood(bundle: Path, folder: Path) -> dict[str, Any]:
    """Ten times what it can do, or as much as the sender can, from clients that do not wait.

    The sender takes processors from the server, and with so many requests its own clock is late: "in the server" is by
    the server's log.
    """
    with start_megavit(bundle, folder) as server:
        async with Client(server.port) as client:
            await closed_loop(client, REQUESTS, 32, 2.0)
            replies, elapsed = await closed_loop(client, REQUESTS, 32, 2.0)
            capacity = sum(reply.status == 200 for reply in replies) / elapsed
            rate = min(FLOOD_TIMES * capacity, MAX_SENT_PER_SECOND)
            replies = await open_loop(client, REQUESTS, poisson(rate, FLOOD_SECONDS, 0))
            after = await client.ask(REQUESTS[0])
        logged = [line["ms"] / 1000 for line in server.log() if line["event"] == "request" and line["status"] == 429]
        refused = [reply.done - reply.sent for reply in replies if reply.status == 429]
        return {
            "requests": len(replies),
            "answered": sum(reply.status > 0 for reply in replies),
            "lost": sum(reply.status not in (200, 429) for reply in replies),
            "statuses": statuses(replies),
            "healthy": server.healthy() and after.status == 200,
            "times_capacity": round(rate / capacity, 1),
            "capacity_per_second": round(capacity, 1),
            "refused_p99_ms": milliseconds(percentile(refused, 0.99)),
            "refused_p99_ms_in_the_server": milliseconds(percentile(logged, 0.99)),
            "orphans": server.stop()[1],
        }


def _label(reply: Reply) -> str | None:
    try:
        return json.loads(reply.body)["predictions"][0]["label"]
    except (ValueError, KeyError):
        return None


SERVER_FAULTS: dict[str, Scenario] = {
    "flood": flood,
    "worker killed, 20 times": killed,
    "bundle replaced, 20 times": replaced,
    "bundle replaced by a damaged one": replaced_by_damaged,
    "bundle replaced by one that never loads": replaced_by_endless,
    "server killed while a worker loads, 5 times": killed_while_loading,
}
