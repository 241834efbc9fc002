"""A light client of HTTP/1.1: requests are made beforehand, answers are read as bytes, connections are kept.

It shares the processors with the server that it measures, so that it does no more than it must.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import count
from typing import Self

from benchmarks.serving.schedule import Reply

HOST = "127.0.0.1"


def request(target: str, body: bytes, kind: str = "application/octet-stream", method: str = "POST") -> bytes:
    """A whole request."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def multipart(files: Sequence[bytes], field: str = "images") -> tuple[bytes, str]:
    """(body, content type) of a form with these files."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{index}.jpg"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + file
        + b"\r\n"
        for index, file in enumerate(files)
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.alive = False
        self._received = bytearray()
        self._end: int | None = None
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.alive = transport, True  # pyrefly: ignore[bad-assignment]

    def ask(self, data: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """(status, body); the status is 0 where the connection ends before."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._received.clear()
        self._end = None
        if not self.alive or self.transport is None:
            self._waiting.set_result((0, b""))
        else:
            self.transport.write(data)
        return self._waiting

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._end is None and (blank := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:blank]).lower()
            start = head.find(b"\r\ncontent-length:")
            length = int(head[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            self._end = blank + 4 + length
            self.alive = b"\r\nconnection: close" not in head
        if self._end is not None and len(self._received) >= self._end:
            self._finish(int(self._received[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._finish(0)

    def _finish(self, status: int) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(
                (status, bytes(self._received[self._received.find(b"\r\n\r\n") + 4 :]) if status else b"")
            )


class Client:
    """Connections to one server; those not in use are kept for the next request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[Connection] = []

    async def ask(self, data: bytes, due: float | None = None) -> Reply:
        """Send a request, on a kept connection where there is one."""
        due = time.perf_counter() if due is None else due
        try:
            connection = await self._connection()
        except OSError:
            now = time.perf_counter()
            return Reply(0, due, now, now)
        sent = time.perf_counter()
        status, body = await connection.ask(data)
        reply = Reply(status, due, sent, time.perf_counter(), body)
        if connection.alive:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
        return (await asyncio.get_running_loop().create_connection(Connection, HOST, self.port))[1]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop().close()


async def closed_loop(
    client: Client, requests: Sequence[bytes], clients: int, seconds: float, max_requests: int | None = None
) -> tuple[list[Reply], float]:
    """So many clients, each of which asks again as soon as it is answered, and the seconds that it took.

    Args:
        seconds: after which nobody asks again; what was asked is waited for.
        most: requests in all, where these come first.
    """
    replies: list[Reply] = []
    indices = count()
    started = time.perf_counter()

    async def run_client() -> None:
        for index in indices:
            if time.perf_counter() - started > seconds or (max_requests is not None and index >= max_requests):
                return
            replies.append(await client.ask(requests[index % len(requests)]))
            if not replies[-1].status:
                await asyncio.sleep(0.01)  # do not flood a server that has exited

    await asyncio.gather(*(run_client() for _ in range(clients)))
    return replies, time.perf_counter() - started


async def open_loop(
    client: Client, requests: Sequence[bytes], arrivals: Sequence[float], stop: Callable[[], bool] = lambda: False
) -> list[Reply]:
    """A request at each of these seconds from now, whether or not those before are answered."""
    started = time.perf_counter()
    tasks: list[asyncio.Task[Reply]] = []
    for index, arrival in enumerate(arrivals):
        wait = started + arrival - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        if stop():
            break
        tasks.append(asyncio.create_task(client.ask(requests[index % len(requests)], started + arrival)))
    return list(await asyncio.gather(*tasks))
