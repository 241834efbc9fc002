"""Beyond what a server can do, and when it has nothing to do: overload, the cost of asking an idle one, its memory."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks.serving.client import Client, closed_loop, open_loop
from benchmarks.serving.contestants import QUEUE, Contestant
from benchmarks.serving.processes import Raw, pss
from benchmarks.serving.rates import warm
from benchmarks.serving.schedule import medians, milliseconds, overload, percentile, poisson

TIMES_CAPACITY = 2.0
PAUSE, ALONE_COUNT = 0.02, 50
REQUESTS, EVERY = 10_000, 1_000


async def strained(those: Sequence[Contestant], rounds: int, seconds: float) -> dict[str, Any]:
    """At twice the capacity that was measured just before, with arrivals that nobody slows down."""
    found: dict[str, list[dict[str, Any]]] = {one.name: [] for one in those}
    with ExitStack() as stack:
        servers = [stack.enter_context(one.start()) for one in those]
        for one, server in zip(those, servers, strict=True):
            await warm(server, one)
            server.pause()
        for turn in range(rounds):
            for one, server in zip(those, servers, strict=True):
                server.resume()
                async with Client(server.port) as client:
                    replies, taken = await closed_loop(client, one.requests, 64, seconds)
                    capacity = sum(reply.status == 200 for reply in replies) / taken
                    arrivals = poisson(TIMES_CAPACITY * capacity, 2 * seconds, turn)
                    replies = await open_loop(client, one.requests, arrivals)
                server.pause()
                result = overload(replies, 2 * seconds, capacity, QUEUE)
                found[one.name].append({"capacity_per_second": round(capacity, 2)} | result)
    return {name: medians(values) for name, values in found.items()}


async def alone(those: Sequence[Contestant], raw: Raw, rounds: int) -> dict[str, Any]:
    """A request at a time to a server that has nothing else to do, beside the model's own time with decoding."""
    taken: dict[str, list[float]] = {"model alone": [], **{one.name: [] for one in those}}
    with ExitStack() as stack:
        servers = [stack.enter_context(one.start()) for one in those]
        for one, server in zip(those, servers, strict=True):
            await warm(server, one)
            server.pause()
        raw.ask(way="decoded", batch=1, seconds=2.0)
        for _ in range(rounds):
            found = raw.ask(way="single", count=ALONE_COUNT, pause=PAUSE)["seconds"]
            assert isinstance(found, list)
            taken["model alone"] += found
            for one, server in zip(those, servers, strict=True):
                server.resume()
                async with Client(server.port) as client:
                    await client.ask(one.requests[0])
                    for place in range(ALONE_COUNT):
                        await asyncio.sleep(PAUSE)
                        reply = await client.ask(one.requests[place % len(one.requests)])
                        taken[one.name].append(reply.done - reply.sent)
                server.pause()
    own = median(taken["model alone"])
    return {
        name: {
            "p50_ms": milliseconds(median(values)),
            "p99_ms": milliseconds(percentile(values, 0.99)),
            "over_the_model_ms": milliseconds(median(values) - own),
        }
        for name, values in taken.items()
    }


async def lasting(those: Sequence[Contestant]) -> dict[str, Any]:
    """Memory before, after each 1,000, and after 10,000 requests, from 16 clients."""
    found: dict[str, Any] = {}
    for one in those:
        with one.start() as server:
            await warm(server, one)
            held = [pss(server.processes())]
            async with Client(server.port) as client:
                for _ in range(REQUESTS // EVERY):
                    replies, _ = await closed_loop(client, one.requests, 16, float("inf"), most=EVERY)
                    held.append(pss(server.processes()))
                    if any(reply.status != 200 for reply in replies):
                        raise RuntimeError(f"{one.name} did not answer everything")
        found[one.name] = {"mib": [round(size / 2**20, 1) for size in held]}
    return found
