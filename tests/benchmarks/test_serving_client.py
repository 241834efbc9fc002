"""The light client, against servers of a few lines on loopback."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.serving.abuse import abuse, chunked, count_outcomes, endless, head, send_all, slowly
from benchmarks.serving.client import Client, closed_loop, multipart, open_loop, request

pytestmark = pytest.mark.benchmarks

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[int]:
    async def and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(and_close, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    top = await reader.readuntil(b"\r\n\r\n")
    length = int(top.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return await reader.readexactly(length)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers in two pieces, and keeps the connection."""
    while True:
        body = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        await asyncio.sleep(0)
        writer.write(f"ngth: {len(body)}\r\n\r\n".encode() + body)


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    await writer.drain()
    # Closing on what is still to come would reset the connection, and who is slow would never read the answer.
    with contextlib.suppress(ConnectionError):
        while await reader.read(2**16):
            pass


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)


async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def test_connections_are_kept_and_bodies_come_whole() -> None:
    async def main() -> None:
        seen = set()

        async def remember(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.add(writer.get_extra_info("peername"))
            await echo(reader, writer)

        async with serving(remember) as port, Client(port) as client:
            for body in (b"one", b"", b"\0" * 200_000):
                reply = await client.ask(request("/predict", body))
                assert (reply.status, reply.body) == (200, body)
            assert len(seen) == 1

    asyncio.run(main())


def test_a_refusal_is_read_and_a_connection_that_ends_is_told() -> None:
    async def main() -> None:
        async with serving(refuse) as port, Client(port) as client:
            assert [(await client.ask(request("/", b"a"))).status for _ in range(3)] == [429] * 3
        async with serving(hang_up) as port, Client(port) as client:
            assert [(await client.ask(request("/", b"a"))).status for _ in range(3)] == [0] * 3
        async with Client(port) as client:
            assert (await client.ask(request("/", b"a"))).status == 0

    asyncio.run(main())


def test_clients_in_a_closed_loop_ask_so_often_and_no_more() -> None:
    async def main() -> None:
        async with serving(echo) as port, Client(port) as client:
            replies, _ = await closed_loop(client, [request("/", b"a"), request("/", b"b")], 3, 60, max_requests=10)
        assert sorted(reply.body for reply in replies) == [b"a"] * 5 + [b"b"] * 5

    asyncio.run(main())


def test_an_open_loop_does_not_wait_for_answers() -> None:
    async def main() -> None:
        waiting = asyncio.Barrier(5)

        async def together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Nobody is answered until all five have asked."""
            body = await read_request(reader)
            await waiting.wait()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

        async with serving(together) as port, Client(port) as client:
            replies = await open_loop(client, [request("/", b"a")], [0, 0.01, 0.02, 0.03, 0.04])
        assert [reply.status for reply in replies] == [200] * 5
        assert all(reply.due <= reply.sent <= reply.done for reply in replies)

    asyncio.run(main())


def test_a_form_holds_the_files() -> None:
    body, kind = multipart([b"one", b"two"])
    boundary = kind.partition("boundary=")[2].encode()
    parts = [part.partition(b"\r\n\r\n")[2] for part in body.split(b"--" + boundary)[1:-1]]
    assert parts == [b"one\r\n", b"two\r\n"]
    assert body.endswith(b"--" + boundary + b"--\r\n")


def test_abuse_ends_with_the_answer_however_much_was_still_to_come() -> None:
    async def main() -> None:
        async with serving(refuse) as port:
            slow = await abuse(port, slowly(head(0) + b"", b"never sent", 60), 60)
            long = await abuse(port, endless(head(5), b"12345", 2**40), 60)
        assert (slow.status, long.status) == (429, 429)
        async with serving(hang_up) as port:
            assert (await abuse(port, send_all(head(3), b"abc"), 60)).status == 0
        async with serving(stay_silent) as port:
            began = time.perf_counter()
            assert (await abuse(port, send_all(head(3)), 0.05)).status == -1
            assert time.perf_counter() - began >= 0.05
        assert count_outcomes([slow, long]) == {"429": 2}

    asyncio.run(main())


def test_chunks_are_those_of_http() -> None:
    assert chunked(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
    assert b"Transfer-Encoding: chunked" in head(None) and b"Content-Length" not in head(None)
