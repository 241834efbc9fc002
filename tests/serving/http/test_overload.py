"""Predictions that a full queue has no room for are refused on connections that stay open."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from httptools import HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from megavit.serving.errors import ApiError
from megavit.serving.http.overload import Overload, is_whole_prediction
from megavit.serving.metrics import Metrics
from tests.helpers.servers import Running, stub_server

HEAD = b"POST /predict HTTP/1.1\r\nhost: localhost\r\n"
IMAGE = HEAD + b"content-length: 5\r\n\r\nimage"


@contextmanager
def full(folder: Path, **settings: float) -> Iterator[tuple[Running, socket.socket]]:
    """A server whose queue is full for some seconds, and the connection that filled it."""
    with stub_server(folder, queue_size=1, **settings) as server, server.raw() as busy:
        busy.sendall(HEAD + b"content-length: 7\r\n\r\nsleep 4")
        server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 1)
        yield server, busy


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of one response on a connection that may stay open."""
    came = b""
    while b"\r\n\r\n" not in came:
        chunk = connection.recv(65_536)
        assert chunk, came
        came += chunk
    head, _, body = came.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65_536)
    return int(first.split()[1]), headers, body


class Parsed:
    """What the server's parser finds in bytes."""

    def __init__(self, data: bytes) -> None:
        self.url, self.body, self.complete = b"", b"", 0
        parser = HttpRequestParser(self)
        parser.feed_data(data)
        self.method, self.is_kept = parser.get_method(), parser.should_keep_alive()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def test_a_whole_request_is_known_without_the_parser() -> None:
    assert is_whole_prediction(IMAGE)
    assert is_whole_prediction(IMAGE.replace(b"/predict", b"/predict?top=3").replace(b"content-l", b"Content-L"))
    assert is_whole_prediction(HEAD + b"connection: keep-alive\r\naccept: */*\r\ncontent-length:0\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [
        IMAGE[:-1],
        IMAGE + b"x",
        IMAGE + IMAGE,
        IMAGE.replace(b"POST", b"PUT"),
        IMAGE.replace(b"/predict", b"/models/a/predict"),
        IMAGE.replace(b"1.1", b"1.0"),
        IMAGE.replace(b"content-length: 5\r\n", b""),
        IMAGE.replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n"),
        IMAGE.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n"),
        IMAGE.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"),
        IMAGE.replace(b"\r\n\r\n", b"\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
        IMAGE.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"),
        IMAGE.replace(b": 5", b" : 5"),
        IMAGE.replace(b"host: localhost\r\n", b"host: localhost\n"),
        IMAGE.replace(b"\r\ncontent", b"\r\n folded\r\ncontent"),
        HEAD + b"content-length: 5\r\n" + b"a: b\r\n" * 64 + b"\r\nimage",
    ],
)
def test_all_else_is_for_the_parser(data: bytes) -> None:
    assert not is_whole_prediction(data)


@settings(max_examples=300)
@given(
    lines=st.lists(
        st.sampled_from(
            [b"a: b", b"a:", b":b", b"a b: c", b"content-length: 5", b"Content-Length:\t5 ", b"content-length: 05",
             b"content-length: +5", b"connection: keep-alive", b"connection: upgrade", b"Transfer-Encoding: chunked",
             b"x: content-length: 4", b"x\x00: b", b"x: \xff", b"x: \x7f", b" x: b", b"x: b\ry: c"]
        ),
        max_size=4,
    ),
    end=st.sampled_from([b"\r\n", b"\n"]),
    body=st.sampled_from([b"image", b"imag", b"images", b""]),
)  # fmt: skip
def test_the_parser_agrees_on_every_whole_request(lines: list[bytes], end: bytes, body: bytes) -> None:
    data = b"".join(line + end for line in [b"POST /predict HTTP/1.1", *lines, b""]) + body
    if not is_whole_prediction(data):
        return
    parsed = Parsed(data)
    assert (parsed.method, parsed.url, parsed.body) == (b"POST", b"/predict", body)
    assert parsed.complete == 1 and parsed.is_kept


def test_the_connection_of_a_refused_request_is_used_again(folder: Path) -> None:
    with full(folder) as (server, busy), server.raw() as late:
        for step in (len(IMAGE), 7, 1):  # in pieces, however they are cut
            for start in range(0, len(IMAGE), step):
                late.sendall(IMAGE[start : start + step])
            status, headers, body = read_response(late)
            assert status == 429
            assert b"too_many_requests" in body
            assert "connection" not in headers
            assert 1 <= int(headers["retry-after"]) <= 60
        late.sendall(IMAGE + IMAGE)  # two at once
        assert statuses_of(late, 2) == [429, 429]
        assert read_response(busy)[0] == 200
        late.sendall(IMAGE)
        assert read_response(late)[0] == 200
        assert server.metric("megavit_errors_total", code="too_many_requests") == 5
        assert server.metric("megavit_requests_total", route="/predict", method="POST", status="429") == 5
        refused = [line for line in server.log if line["event"] == "refused"]
        assert refused and refused[0]["requests"] == 1


def statuses_of(connection: socket.socket, count: int) -> list[int]:
    came = b""
    while came.count(b"HTTP/1.1 ") < count or not came.endswith(b"}"):
        chunk = connection.recv(65_536)
        assert chunk, came
        came += chunk
    return [int(part[:3]) for part in came.split(b"HTTP/1.1 ")[1:]]


def test_it_has_the_headers_of_every_other_refusal(folder: Path) -> None:
    with full(folder) as (server, _), server.raw() as early, server.raw() as late:
        early.sendall(IMAGE)
        late.sendall(IMAGE.replace(b"/predict", b"/models/stub/predict"))
        one, other = (read_response(connection) for connection in (early, late))
        assert one[1].keys() == other[1].keys()
        assert one[1]["date"][:10] == other[1]["date"][:10] and one[1]["date"].endswith(" GMT")
        assert len(one[1]["x-request-id"]) == 16
        assert one[2] == other[2]


def test_what_is_no_small_prediction_is_for_the_application(folder: Path) -> None:
    with full(folder) as (server, _):
        with server.client() as client:
            assert client.get("/health/ready").status_code == 200
        for body in (b"x" * 2**20, iter([b"image"])):
            with server.client() as client:
                reply = client.post("/predict", content=body)
            assert reply.status_code == 429
        server.until(lambda: sum(line["event"] == "request" and line.get("status") == 429 for line in server.log) == 2)


def test_a_body_that_never_comes_is_not_waited_for_and_answered_once(folder: Path) -> None:
    with full(folder, read_timeout=1) as (server, _), server.raw() as late:
        late.sendall(HEAD + b"content-length: 5\r\n\r\nim")
        assert read_response(late)[0] == 429
        assert late.recv(65_536) == b""


@pytest.mark.parametrize("line", [b"connection: close\r\n", b"expect: 100-continue\r\n"])
def test_a_client_that_wants_to_close_or_to_wait_is_heard(folder: Path, line: bytes) -> None:
    with full(folder) as (server, _), server.raw() as late:
        late.sendall(HEAD + line + b"content-length: 5\r\n\r\n" + (b"image" if b"close" in line else b""))
        status, headers, _ = read_response(late)
        assert (status, headers["connection"]) == (429, "close")
        assert late.recv(65_536) == b""


def test_requests_that_arrive_at_once_are_counted_before_the_application_counts_them() -> None:
    asked: list[int] = []

    def find_error(images: int) -> ApiError | None:
        asked.append(images)
        return ApiError(429, "full") if images > 2 else None

    async def arrive() -> list[bool]:
        overload = Overload(find_error, Metrics())
        refused = [overload.refuse(b"POST", b"/predict") is not None for _ in range(3)]
        refused.append(overload.refuse_whole(IMAGE) is not None)
        await asyncio.sleep(0)
        return [*refused, overload.refuse_whole(IMAGE) is not None]

    assert asyncio.run(arrive()) == [False, False, True, True, False]
    assert asked == [1, 2, 3, 3, 1]
