"""Faults that come from clients, while others ask as usual."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from benchmarks.serving import abuse
from benchmarks.serving.client import Client, multipart, request
from benchmarks.serving.floods import FLOODS
from benchmarks.serving.hostile import encode, hostile_images, make_image, png
from benchmarks.serving.processes import ServerProcess, peak_memory_above, reset_peak_memory
from benchmarks.serving.schedule import Reply, milliseconds, percentile, statuses

GOOD = [encode(make_image(96 + index, 64), kind) for index in range(4) for kind in ("JPEG", "PNG", "WEBP")]
REQUESTS = [request("/predict", image) for image in GOOD]
BYSTANDERS, MANY, LARGE = 4, 100, 20
TIMEOUT_SECONDS = 30.0

Intrusion = Callable[[ServerProcess], Awaitable[dict[str, Any]]]


async def run_with_bystanders(server: ServerProcess, intrusion: Intrusion) -> dict[str, Any]:
    """A row: what the intruders got, and what the bystanders did."""
    process, front = server.worker(), server.processes()[0]
    before, front_before = reset_peak_memory(process), reset_peak_memory(front)
    finished = asyncio.Event()

    async def ask(client: Client) -> list[Reply]:
        replies = [await client.ask(REQUESTS[0])]
        while not finished.is_set():
            replies.append(await client.ask(REQUESTS[len(replies) % len(REQUESTS)]))
        return replies

    async with Client(server.port) as client:
        tasks = [asyncio.create_task(ask(client)) for _ in range(BYSTANDERS)]
        started = time.perf_counter()
        try:
            row = await intrusion(server)
        finally:
            finished.set()
        replies = [reply for task in tasks for reply in await task]
        after = await client.ask(REQUESTS[0])
    alive = process.is_running()
    return {
        "requests": len(replies),
        "answered": sum(reply.status > 0 for reply in replies),
        "lost": sum(not 0 < reply.status < 500 for reply in replies),
        "others": statuses(replies),
        "others_p99_ms": milliseconds(percentile([reply.done - reply.sent for reply in replies], 0.99)),
        "healthy": server.healthy() and after.status == 200,
        "restarts": int(not alive),
        "seconds": round(time.perf_counter() - started, 2),
        "others_longest_ms": milliseconds(max(reply.done - reply.sent for reply in replies)),
        "worker_peak_above_mib": round(peak_memory_above(process, before) / 2**20) if alive else None,
        "front_peak_above_mib": round(peak_memory_above(front, front_before) / 2**20),
    } | row


async def _all(
    server: ServerProcess, parts: Callable[[], AsyncIterator[bytes]], half_close: bool = False, count: int = MANY
) -> dict[str, Any]:
    outcomes = await asyncio.gather(
        *(abuse.abuse(server.port, parts(), TIMEOUT_SECONDS, half_close=half_close) for _ in range(count))
    )
    return {
        "statuses": abuse.count_outcomes(outcomes),
        "slowest_s": round(max(outcome.seconds for outcome in outcomes), 2),
        "most_sent_mib": round(max(outcome.sent for outcome in outcomes) / 2**20, 2),
    }


async def oversize(server: ServerProcess) -> dict[str, Any]:
    part = bytes(2**18)
    return await _all(server, lambda: abuse.endless(abuse.head(2**33), part, 2**28), count=10)


async def oversize_in_chunks(server: ServerProcess) -> dict[str, Any]:
    part = abuse.chunked(bytes(2**18))
    return await _all(server, lambda: abuse.endless(abuse.head(None), part, 2**28), count=10)


async def slow_headers(server: ServerProcess) -> dict[str, Any]:
    return await _all(
        server, lambda: abuse.slowly(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"X-A: b" * 99, 0.2)
    )


async def silence(server: ServerProcess) -> dict[str, Any]:
    return await _all(server, lambda: abuse.slowly(b"", b"POST", 60))


async def slow_body(server: ServerProcess) -> dict[str, Any]:
    return await _all(server, lambda: abuse.slowly(abuse.head(10_000), GOOD[0], 0.2))


async def no_body(server: ServerProcess) -> dict[str, Any]:
    return await _all(server, lambda: abuse.slowly(abuse.head(10_000), b"a", 60))


async def truncated_form(server: ServerProcess) -> dict[str, Any]:
    body, kind = multipart(GOOD[:3])
    cut = body[: len(body) // 2]
    return await _all(server, lambda: abuse.send_all(abuse.head(len(cut), kind), cut))


async def truncated_body(server: ServerProcess) -> dict[str, Any]:
    return await _all(server, lambda: abuse.send_all(abuse.head(10_000), GOOD[0][:500]), half_close=True)


async def no_http(server: ServerProcess) -> dict[str, Any]:
    return await _all(
        server, lambda: abuse.send_all(b"\x16\x03\x01\x02\0 no HTTP at all \r\n\r\n" * 9), half_close=True
    )


async def long_headers(server: ServerProcess) -> dict[str, Any]:
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return await _all(server, lambda: abuse.endless(head, b"X-A: " + b"b" * 8_000 + b"\r\n", 2**24), count=10)


async def hostile(server: ServerProcess) -> dict[str, Any]:
    """Each by itself, then all in one form."""
    images = await asyncio.to_thread(hostile_images)
    each: dict[str, Any] = {}
    async with Client(server.port) as client:
        replies = []
        for name, data in images.items():
            replies.append(await client.ask(request("/predict", data)))
            each[name] = {"status": replies[-1].status, "ms": milliseconds(replies[-1].done - replies[-1].sent)}
        form = [data for data in images.values() if len(data) < 2**20]
        together = await client.ask(request("/predict", *multipart(form)))
    return {
        "hostile_images": len(images),
        "statuses": statuses(replies),
        "slowest_ms": max(outcome["ms"] for outcome in each.values()),
        "form_of_all": together.status,
        "each": each,
    }


async def large(server: ServerProcess) -> dict[str, Any]:
    """Many at once just below the limit of pixels: decoded one at a time, so that memory is bounded."""
    image = png(7_000, 7_000, bytes(21_001 * 7_000), color=2)
    async with Client(server.port) as client:
        replies = await asyncio.gather(*(client.ask(request("/predict", image)) for _ in range(LARGE)))
    return {
        "statuses": statuses(replies),
        "slowest_ms": milliseconds(max(outcome.done - outcome.sent for outcome in replies)),
    }


async def client_gone(server: ServerProcess) -> dict[str, Any]:
    """Half of them in the middle of their body, half as soon as they have asked."""
    half = REQUESTS[0][: len(REQUESTS[0]) // 2]
    for data in (half, REQUESTS[0]):
        for pause in (0.0, 0.005):
            await asyncio.gather(*(abuse.send_and_disconnect(server.port, data, pause) for _ in range(MANY)))
    return {"statuses": {"gone": 4 * MANY}}


INTRUSIONS: dict[str, Intrusion] = {
    "8 GiB announced": oversize,
    "256 MiB in chunks": oversize_in_chunks,
    "slow headers": slow_headers,
    "nothing sent": silence,
    "slow body": slow_body,
    "no body": no_body,
    "form cut short": truncated_form,
    "body cut short": truncated_body,
    "no HTTP": no_http,
    "16 MiB of headers": long_headers,
    "hostile images": hostile,
    "20 images of 49 million pixels at once": large,
    "client gone": client_gone,
    **FLOODS,
}
