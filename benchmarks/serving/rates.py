"""Cold starts, and answers a second beside the model alone, in turns."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks.serving.client import Client, closed_loop
from benchmarks.serving.contestants import BATCH, OURS, Contestant
from benchmarks.serving.processes import RawModel, ServerProcess, cpu_seconds, pss
from benchmarks.serving.schedule import medians, ratio, summary

CLIENTS = (1, 4, 16, 64)
WARM_SECONDS = 2.0
Found = dict[str, dict[int, list[dict[str, Any]]]]
"""Name -> clients -> the figures of each round."""
IDLE_SECONDS = 2.0


async def measure_startup(contestants: Sequence[Contestant], rounds: int) -> dict[str, Any]:
    """Seconds from nothing until each says that it is ready, and until its first answer; its memory then, its end."""
    found: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contestants}
    for turn in range(-1, rounds):  # round -1 fills the page cache
        for one in contestants:
            with one.start() as server:
                async with Client(server.port) as client:
                    reply = await client.ask(one.requests[0])
                answered = time.perf_counter() - server.started
                memory = pss(server.processes())
                code, orphan_count = server.stop()
            if reply.status != 200:
                raise RuntimeError(
                    f"{one.name} responded to its first request with status {reply.status}: {reply.body!r}"
                )
            if turn >= 0:
                found[one.name].append(
                    {
                        "ready_seconds": server.ready_seconds,
                        "first_answer_seconds": answered,
                        "memory_mib": memory / 2**20,
                        "exit_code": code,
                        "orphans": orphan_count,
                    }
                )
    return {name: medians(values) for name, values in found.items()}


async def warm(server: ServerProcess, one: Contestant, seconds: float = WARM_SECONDS) -> None:
    """Until its engine is chosen, and its batches of every size have been computed once."""
    async with Client(server.port) as client:
        for clients in CLIENTS:
            await closed_loop(client, one.requests, clients, seconds / len(CLIENTS))


async def measure_rates(
    contestants: Sequence[Contestant], raw: RawModel, rounds: int, seconds: float
) -> dict[str, Any]:
    """Answers a second and their times for each number of clients, in turns; whoever is not measured stands still.

    The model alone computes in batches as large as those that so many clients can fill.
    """
    alone: dict[str, dict[int, list[float]]] = {way: {one: [] for one in CLIENTS} for way in ("decoded", "computed")}
    engine: object = None
    idle: dict[str, dict[str, float]] = {}

    def model_alone(clients: int, is_counted: bool) -> None:
        nonlocal engine
        for way, values in alone.items():
            response = raw.ask(way=way, batch=min(clients, BATCH), seconds=seconds)
            engine = response["engine"]
            if is_counted:
                values[clients].append(float(str(response["images_per_second"])))

    found = await _measure_rounds(contestants, rounds, seconds, model_alone, idle)
    return {
        "model_alone": {
            way: {clients: round(median(values), 2) for clients, values in by_clients.items()}
            for way, by_clients in alone.items()
        },
        "engine_alone": engine,
        "servers": {
            name: {
                clients: row
                | {
                    "share_of_model_with_decoding": ratio(
                        _requests_per_second(found[name][clients]), alone["decoded"][clients]
                    ),
                    "share_of_model_without_decoding": ratio(
                        _requests_per_second(found[name][clients]), alone["computed"][clients]
                    ),
                }
                for clients, row in by_clients.items()
            }
            for name, by_clients in _summarize(found).items()
        },
        "idle": idle,
    }


async def measure_batching_gain(contestants: Sequence[Contestant], rounds: int, seconds: float) -> dict[str, Any]:
    """The same without a model to compare with."""
    return _summarize(await _measure_rounds(contestants, rounds, seconds, lambda _clients, _counts: None, {}))


async def _measure_rounds(
    contestants: Sequence[Contestant],
    rounds: int,
    seconds: float,
    before_servers: Callable[[int, bool], None],
    idle: dict[str, dict[str, float]],
) -> Found:
    """Each round's figures; `first` is called before the servers' turns, with whether the round counts."""
    found: Found = {one.name: {clients: [] for clients in CLIENTS} for one in contestants}
    with ExitStack() as stack:
        servers = [stack.enter_context(one.start()) for one in contestants]
        for one, server in zip(contestants, servers, strict=True):
            await warm(server, one)
            idle[one.name] = _idle(server)
            server.pause()
        for turn in range(-1, rounds):  # round -1 warms up
            for clients in CLIENTS:
                before_servers(clients, turn >= 0)
                for one, server in zip(contestants, servers, strict=True):
                    server.resume()
                    result = await _measure_once(one, server, clients, seconds)
                    server.pause()
                    if turn >= 0:
                        found[one.name][clients].append(result)
        for one, server in zip(contestants, servers, strict=True):
            idle[one.name]["memory_after_mib"] = round(pss(server.processes()) / 2**20, 1)
    return found


def _summarize(found: Found) -> dict[str, dict[int, dict[str, Any]]]:
    return {
        name: {
            clients: medians(values)
            | {
                "megavit_answers_so_many_times_as_many": ratio(
                    _requests_per_second(found[OURS][clients]), _requests_per_second(values)
                )
            }
            for clients, values in by_clients.items()
        }
        for name, by_clients in found.items()
    }


async def _measure_once(one: Contestant, server: ServerProcess, clients: int, seconds: float) -> dict[str, Any]:
    spent, served = time.process_time(), cpu_seconds(server.processes())
    async with Client(server.port) as client:
        replies, taken = await closed_loop(client, one.requests, clients, seconds)
    return summary(replies, taken) | {
        "sender_ms_a_request": round((time.process_time() - spent) / max(1, len(replies)) * 1000, 3),
        "server_cpu_ms_a_request": round((cpu_seconds(server.processes()) - served) / max(1, len(replies)) * 1000, 3),
    }


def _idle(server: ServerProcess) -> dict[str, float]:
    """What it costs when nobody asks."""
    time.sleep(0.5)
    before = cpu_seconds(server.processes())
    time.sleep(IDLE_SECONDS)
    share = (cpu_seconds(server.processes()) - before) / IDLE_SECONDS
    return {"share_of_a_core_when_idle": round(share, 3), "memory_warm_mib": round(pss(server.processes()) / 2**20, 1)}


def _requests_per_second(values: list[dict[str, Any]]) -> list[float]:
    return [one["requests_per_second"] for one in values]
