"""Faults of what answers, under load: its process is killed, its bundle is replaced."""

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.serving.client import Client
from benchmarks.serving.intrusions import REQUESTS
from benchmarks.serving.processes import Served, lives, ours
from benchmarks.serving.schedule import Reply, milliseconds, percentile, statuses
from megavit.runtime.storage import new_folder
from megavit.weights.bundle import copy_bundle, load_bundle

CLIENTS, TIMES = 16, 20
PATIENCE = 60.0
Upheaval = Callable[[Path, Path], Awaitable[dict[str, Any]]]


class Crowd:
    """Clients that ask without end, and what they were told."""

    def __init__(self, server: Served) -> None:
        self._server, self._finished = server, asyncio.Event()
        self.replies: list[Reply] = []

    async def _ask(self, client: Client) -> None:
        while not self._finished.is_set():
            self.replies.append(await client.ask(REQUESTS[len(self.replies) % len(REQUESTS)]))
            if not self.replies[-1].status:
                await asyncio.sleep(0.01)

    async def __aenter__(self) -> "Crowd":
        self._client = Client(self._server.port)
        self._tasks = [asyncio.create_task(self._ask(self._client)) for _ in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._finished.set()
        await asyncio.gather(*self._tasks)

    async def until(self, true: Callable[[Reply], bool]) -> float:
        """Seconds until a reply that is asked for from now on is so.

        Raises:
            RuntimeError: where there is none.
        """
        began = time.perf_counter()
        seen = len(self.replies)
        while time.perf_counter() - began < PATIENCE:
            await asyncio.sleep(0.01)
            new, seen = self.replies[seen:], len(self.replies)
            if any(reply.sent > began and true(reply) for reply in new):
                return time.perf_counter() - began
        raise RuntimeError(f"no such answer in {PATIENCE} s; the last: {self.replies[-1]}")


def _row(replies: list[Reply], server: Served, seconds: list[float]) -> dict[str, Any]:
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
    with ours(bundle, folder) as server:
        async with Crowd(server) as crowd:
            await crowd.until(lambda reply: reply.status == 200)
            for _ in range(TIMES):
                worker = server.worker()
                worker.kill()
                while lives(worker):
                    await asyncio.sleep(0.005)
                seconds.append(await crowd.until(lambda reply: reply.status == 200))
                await asyncio.sleep(0.3)
        row = _row(crowd.replies, server, seconds) | {"restarts": TIMES}
        return row | {"orphans": server.stop()[1]}


async def swapped(bundle: Path, folder: Path) -> dict[str, Any]:
    """The bundle, by one with other labels, and back, 20 times, as training writes it."""
    info = load_bundle(bundle).info
    names = [[f"{label} {letter}" for label in info.labels] for letter in "ab"]
    sources = [folder / "a", folder / "b"]
    for source, labels in zip(sources, names, strict=True):
        copy_bundle(bundle, source, replace(info, labels=labels))
    served = folder / "served"
    shutil.copytree(sources[0], served)
    seconds = []
    with ours(served, folder) as server:
        async with Crowd(server) as crowd:
            await crowd.until(lambda reply: reply.status == 200)
            for turn in range(1, TIMES + 1):
                with new_folder(served) as new:
                    shutil.copytree(sources[turn % 2], new, dirs_exist_ok=True)
                wanted = names[turn % 2]
                seconds.append(await crowd.until(lambda reply, wanted=wanted: _label(reply) in wanted))
        row = _row(crowd.replies, server, seconds)
        known = {label for labels in names for label in labels}
        row["answers_of_neither"] = sum(_label(reply) not in known for reply in crowd.replies)
        return row | {"orphans": server.stop()[1]}


async def spoilt(bundle: Path, folder: Path) -> dict[str, Any]:
    """The bundle replaced by one that cannot be loaded: the old one goes on."""
    served = folder / "spoilt"
    shutil.copytree(bundle, served)
    with ours(served, folder) as server:
        async with Crowd(server) as crowd:
            await crowd.until(lambda reply: reply.status == 200)
            with new_folder(served) as new:
                shutil.copytree(bundle, new, dirs_exist_ok=True)
                weights = new / "model.safetensors"
                weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
                described = json.loads((new / "megavit.json").read_text())
                (new / "megavit.json").write_text(json.dumps(described))
            await asyncio.sleep(6)
            seconds = [await crowd.until(lambda reply: reply.status == 200)]
        row = _row(crowd.replies, server, seconds)
        return row | {"orphans": server.stop()[1]}


def _label(reply: Reply) -> str | None:
    try:
        return json.loads(reply.body)["answers"][0]["label"]
    except (ValueError, KeyError):
        return None


UPHEAVALS: dict[str, Upheaval] = {
    "worker killed, 20 times": killed,
    "bundle replaced, 20 times": swapped,
    "bundle replaced by a damaged one": spoilt,
}
