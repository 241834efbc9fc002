"""Clients that do wrong, on plain sockets."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from benchmarks.serving.client import HOST


@dataclass(frozen=True)
class Outcome:
    """How it ended for one of them.

    Attributes:
        status: of the answer, 0 where the connection ended without one, -1 where it had to be given up.
        seconds: until then.
        sent: bytes that the server took.
    """

    status: int
    seconds: float
    sent: int


async def abuse(port: int, parts: AsyncIterator[bytes], timeout: float, half_close: bool = False) -> Outcome:
    """Send the parts until there is an answer or the connection ends, at most `patience` seconds.

    Args:
        half_close: say that there is no more to come once all parts are sent.
    """
    started, sent = time.perf_counter(), 0
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return Outcome(0, time.perf_counter() - started, 0)

    async def send() -> None:
        nonlocal sent
        with contextlib.suppress(OSError):  # closed while sending; the response may have arrived anyway
            async for part in parts:
                writer.write(part)
                sent += len(part)
                await writer.drain()
            if half_close:
                writer.write_eof()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(timeout):
            line = await reader.readline()
    except TimeoutError:
        return Outcome(-1, time.perf_counter() - started, sent)
    except OSError:
        line = b""
    finally:
        sending.cancel()
        writer.transport.abort()
    return Outcome(int(line[9:12]) if line.startswith(b"HTTP/") else 0, time.perf_counter() - started, sent)


async def send_all(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def endless(head: bytes, part: bytes, max_bytes: int) -> AsyncIterator[bytes]:
    """`head`, then `part` until there are `most` bytes."""
    yield head
    for _ in range(max_bytes // len(part)):
        yield part


async def slowly(head: bytes, rest: bytes, pause: float) -> AsyncIterator[bytes]:
    """`head`, then `rest` byte for byte."""
    yield head
    for index in range(len(rest)):
        await asyncio.sleep(pause)
        yield rest[index : index + 1]


async def send_and_disconnect(port: int, data: bytes, pause: float) -> None:
    """Send this, and be gone."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return
    writer.write(data)
    await asyncio.sleep(pause)
    writer.transport.abort()


def head(length: int | None, kind: str = "application/octet-stream") -> bytes:
    """Of a request to /predict; without a length its body comes in chunks."""
    how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\n{how}\r\n\r\n".encode()


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def count_outcomes(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How often each ended so: a status, "closed" without one, or "given up"."""
    names = {0: "closed", -1: "given up"}
    found: dict[str, int] = {}
    for outcome in outcomes:
        name = names.get(outcome.status, str(outcome.status))
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))
