"""Faults of clients that know HTTP: what is allowed, or nearly so, in amounts that nobody needs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from benchmarks.serving import abuse
from benchmarks.serving.client import HOST, Client, multipart, request
from benchmarks.serving.hostile import encode, make_image
from benchmarks.serving.processes import ServerProcess
from benchmarks.serving.schedule import statuses

TIMEOUT_SECONDS = 30.0
MANY, FEW = 100, 10
IMAGE = encode(make_image(), "PNG")
HEAD = f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\n".encode()
GET = f"GET /health/live HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


async def _each(
    server: ServerProcess, parts: Callable[[], AsyncIterator[bytes]], count: int, timeout: float = TIMEOUT_SECONDS
) -> dict[str, Any]:
    outcomes = await asyncio.gather(*(abuse.abuse(server.port, parts(), timeout) for _ in range(count)))
    return {
        "statuses": abuse.count_outcomes(outcomes),
        "slowest_s": round(max(one.seconds for one in outcomes), 2),
        "most_sent_mib": round(max(one.sent for one in outcomes) / 2**20, 2),
    }


async def _answers(server: ServerProcess, data: bytes, count: int) -> dict[str, Any]:
    """To requests that are whole, each on a connection of its own."""
    async with Client(server.port) as client:
        started = time.perf_counter()
        replies = await asyncio.gather(*(client.ask(data) for _ in range(count)))
    return {"statuses": statuses(replies), "slowest_s": round(time.perf_counter() - started, 2)}


async def short_trailers(server: ServerProcess) -> dict[str, Any]:
    head = abuse.head(None) + abuse.chunked(IMAGE) + b"0\r\n"
    return await _each(server, lambda: abuse.endless(head, b"a: b\r\n" * 10_000, 2**27), 1)


async def endless_trailer(server: ServerProcess) -> dict[str, Any]:
    head = abuse.head(None) + abuse.chunked(IMAGE) + b"0\r\na: "
    return await _each(server, lambda: abuse.endless(head, b"b" * 60_000, 2**27), 1)


async def chunk_extension(server: ServerProcess) -> dict[str, Any]:
    return await _each(server, lambda: abuse.endless(abuse.head(None) + b"5;a=", b"b" * 60_000, 2**27), FEW)


async def tiny_chunks(server: ServerProcess) -> dict[str, Any]:
    part = b"1\r\nx\r\n" * 10_000
    return await _each(server, lambda: abuse.endless(abuse.head(None), part, 2**24), FEW)


async def upgrades(server: ServerProcess) -> dict[str, Any]:
    """Java's and curl's first request, as they send it."""
    fields = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    return await _answers(server, HEAD + fields + f"Content-Length: {len(IMAGE)}\r\n\r\n".encode() + IMAGE, MANY)


async def line_breaks(server: ServerProcess) -> dict[str, Any]:
    """After an answer, one every five seconds."""

    async def one() -> float:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(GET)
        await reader.readuntil(b"}")
        started = time.perf_counter()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(100):
                while not await _is_closed(reader, 5.0):
                    writer.write(b"\r\n")
        writer.transport.abort()
        return time.perf_counter() - started

    seconds = await asyncio.gather(*(one() for _ in range(MANY)))
    kept = sum(one > 99 for one in seconds)
    return {"statuses": {"closed": MANY - kept, "given up": kept}, "slowest_s": round(max(seconds), 2)}


async def _is_closed(reader: asyncio.StreamReader, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return not await reader.read(1)
    except TimeoutError:
        return False


async def pipelines(server: ServerProcess) -> dict[str, Any]:
    """A request that takes long, and behind it as many as the server takes in."""
    first = request("/predict?explanation=true", *multipart([IMAGE] * 20))
    small = b"GET / HTTP/1.1\r\n\r\n" * 10_000

    async def one() -> int:
        _, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(first)
        sent = 0
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(3):
                while sent < 2**24:
                    writer.write(small)
                    await writer.drain()
                    sent += len(small)
        writer.transport.abort()
        return sent

    sent = await asyncio.gather(*(one() for _ in range(MANY)))
    return {"statuses": {"gone": MANY}, "most_sent_mib": round(max(sent) / 2**20, 2)}


async def tiny_headers(server: ServerProcess) -> dict[str, Any]:
    return await _each(server, lambda: abuse.send_all(HEAD + b"a:\r\n" * 16_000 + b"\r\n"), MANY)


async def long_query(server: ServerProcess) -> dict[str, Any]:
    query = "&".join(f"{index:x}" for index in range(12_000))
    return await _answers(server, request(f"/predict?{query}", IMAGE), MANY)


async def long_type(server: ServerProcess) -> dict[str, Any]:
    """A content type that takes time to take apart."""
    kind = 'multipart/form-data; boundary="' + ";" * 60_000
    return await _answers(server, request("/predict", IMAGE, kind), FEW)


async def many_parts(server: ServerProcess) -> dict[str, Any]:
    body = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n\r\n' * 200_000
    return await _answers(server, request("/predict", body, "multipart/form-data; boundary=x"), FEW)


async def nearly_boundaries(server: ServerProcess) -> dict[str, Any]:
    """A form whose file is nothing but beginnings of its boundary."""
    boundary = "x" * 64
    start = f'--{boundary}\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'.encode()
    body = start + (b"\r\n--" + b"x" * 63) * 120_000 + f"\r\n--{boundary}--\r\n".encode()
    return await _answers(server, request("/predict", body, f"multipart/form-data; boundary={boundary}"), FEW)


async def line_ends(server: ServerProcess) -> dict[str, Any]:
    """A form whose file is nothing but line ends."""
    start = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    body = start + b"\r" * (8 * 2**20) + b"\r\n--x--\r\n"
    return await _answers(server, request("/predict", body, "multipart/form-data; boundary=x"), FEW)


async def long_name(server: ServerProcess) -> dict[str, Any]:
    start = b'--x\r\nContent-Disposition: form-data; name="a"; filename="' + b";" * (8 * 2**20) + b'"\r\n\r\n'
    body = start + IMAGE + b"\r\n--x--\r\n"
    return await _answers(server, request("/predict", body, "multipart/form-data; boundary=x"), FEW)


async def expectations(server: ServerProcess) -> dict[str, Any]:
    """A body is announced and asked for, and does not come."""
    head = HEAD + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"

    async def one() -> int:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(head)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                received = await reader.read()
                writer.transport.abort()
                return int(received.split(b"HTTP/1.1 ")[-1][:3])
        writer.transport.abort()
        return 0

    found = await asyncio.gather(*(one() for _ in range(MANY)))
    return {"statuses": {str(status): found.count(status) for status in sorted(set(found))}}


async def idle_connections(server: ServerProcess) -> dict[str, Any]:
    """Many that send nothing."""
    return await _each(server, lambda: abuse.slowly(b"", b"POST", 60), 2_000)


async def many_paths(server: ServerProcess) -> dict[str, Any]:
    """Addresses and methods by the thousand: what is counted of them stays small."""
    before = len(server.get("/metrics")[1])
    async with Client(server.port) as client:
        for start in range(0, 4_000, MANY):
            await asyncio.gather(
                *(
                    client.ask(request(f"/{index}/models/{index}", b"", method="GET"))
                    for index in range(start, start + MANY)
                ),
                *(client.ask(request(f"/models/{index}/predict", b"")) for index in range(start, start + MANY)),
                *(
                    client.ask(request("/predict", b"", method=method))
                    for method in ("PUT", "DELETE", "MKCOL", "PURGE")
                ),
            )
    return {"statuses": {}, "metrics_more_bytes": len(server.get("/metrics")[1]) - before}


FLOODS: dict[str, Callable[[ServerProcess], Awaitable[dict[str, Any]]]] = {
    "128 MiB of short trailers": short_trailers,
    "a trailer of 128 MiB": endless_trailer,
    "a chunk's extension of 128 MiB": chunk_extension,
    "chunks of one byte": tiny_chunks,
    "upgrade asked for": upgrades,
    "a line break every 5 s": line_breaks,
    "requests behind one another": pipelines,
    "16,000 headers": tiny_headers,
    "12,000 parameters": long_query,
    "content type of 60 KB": long_type,
    "form of 200,000 parts": many_parts,
    "form of nearly boundaries": nearly_boundaries,
    "form of line ends": line_ends,
    "file name of 8 MiB": long_name,
    "body expected and not sent": expectations,
    "2,000 connections without a word": idle_connections,
    "thousands of addresses": many_paths,
}
