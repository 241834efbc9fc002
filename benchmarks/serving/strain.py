"""Beyond what a server can do, and when it has nothing to do: overload, the cost of asking an idle one, its memory."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks.serving.client import Client, closed_loop, open_loop
from benchmarks.serving.contestants import QUEUE, Contestant
from benchmarks.serving.processes import RawModel, ServerProcess, cpu_seconds, pss
from benchmarks.serving.rates import warm
from benchmarks.serving.schedule import medians, milliseconds, overload, percentile, poisson

TIMES_CAPACITY = (1, 2, 10)
PAUSE_SECONDS, ALONE_COUNT = 0.02, 50
REQUESTS, SAMPLE_EVERY = 10_000, 1_000


async def measure_overload(contestants: Sequence[Contestant], rounds: int, seconds: float) -> dict[str, Any]:
    """At multiples of the capacity that was measured just before, with arrivals that nobody slows down."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        contestant.name: {str(times): [] for times in TIMES_CAPACITY} for contestant in contestants
    }
    with ExitStack() as stack:
        servers = [stack.enter_context(contestant.start()) for contestant in contestants]
        for contestant, server in zip(contestants, servers, strict=True):
            await warm(server, contestant)
            server.pause()
        for turn in range(rounds):
            for contestant, server in zip(contestants, servers, strict=True):
                server.resume()
                for times in TIMES_CAPACITY:
                    result = await _measure_overload_once(contestant, server, times, seconds, turn)
                    found[contestant.name][str(times)].append(result)
                server.pause()
    return {name: {times: medians(values) for times, values in by_times.items()} for name, by_times in found.items()}


async def _measure_overload_once(
    contestant: Contestant, server: ServerProcess, times: int, seconds: float, seed: int
) -> dict[str, Any]:
    async with Client(server.port) as client:
        replies, taken = await closed_loop(client, contestant.requests, 64, seconds)
        capacity = sum(reply.status == 200 for reply in replies) / taken
        arrivals = poisson(times * capacity, 2 * seconds, seed)
        sender, spent, started = time.process_time(), cpu_seconds(server.processes()), time.perf_counter()
        replies = await open_loop(client, contestant.requests, arrivals)
        taken = time.perf_counter() - started
    return (
        {"capacity_per_second": round(capacity, 2)}
        | overload(replies, 2 * seconds, capacity, QUEUE)
        | {
            "sender_cores": round((time.process_time() - sender) / taken, 3),
            "server_cores": round((cpu_seconds(server.processes()) - spent) / taken, 3),
        }
    )


async def measure_single_requests(contestants: Sequence[Contestant], raw: RawModel, rounds: int) -> dict[str, Any]:
    """A request at a time to a server that has nothing else to do, beside the model's own time with decoding."""
    taken: dict[str, list[float]] = {"model alone": [], **{contestant.name: [] for contestant in contestants}}
    with ExitStack() as stack:
        servers = [stack.enter_context(contestant.start()) for contestant in contestants]
        for contestant, server in zip(contestants, servers, strict=True):
            await warm(server, contestant)
            server.pause()
        raw.ask(way="decoded", batch=1, seconds=2.0)
        for _ in range(rounds):
            found = raw.ask(way="single", count=ALONE_COUNT, pause=PAUSE_SECONDS)["seconds"]
            assert isinstance(found, list)
            taken["model alone"] += found
            for contestant, server in zip(contestants, servers, strict=True):
                server.resume()
                async with Client(server.port) as client:
                    await client.ask(contestant.requests[0])
                    for index in range(ALONE_COUNT):
                        await asyncio.sleep(PAUSE_SECONDS)
                        reply = await client.ask(contestant.requests[index % len(contestant.requests)])
                        taken[contestant.name].append(reply.done - reply.sent)
                server.pause()
    model_seconds = median(taken["model alone"])
    return {
        name: {
            "p50_ms": milliseconds(median(values)),
            "p99_ms": milliseconds(percentile(values, 0.99)),
            "over_the_model_ms": milliseconds(median(values) - model_seconds),
        }
        for name, values in taken.items()
    }


async def measure_memory_growth(contestants: Sequence[Contestant]) -> dict[str, Any]:
    """Memory before, after each 1,000, and after 10,000 requests, from 16 clients."""
    found: dict[str, Any] = {}
    for contestant in contestants:
        with contestant.start() as server:
            await warm(server, contestant)
            memory = [pss(server.processes())]
            async with Client(server.port) as client:
                for _ in range(REQUESTS // SAMPLE_EVERY):
                    replies, _ = await closed_loop(
                        client, contestant.requests, 16, float("inf"), max_requests=SAMPLE_EVERY
                    )
                    memory.append(pss(server.processes()))
                    if any(reply.status != 200 for reply in replies):
                        raise RuntimeError(f"{contestant.name} did not answer every request")
        found[contestant.name] = {"mib": [round(size / 2**20, 1) for size in memory]}
    return found
