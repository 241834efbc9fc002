"""What is too large, too slow, too much, or not what it says it is."""

import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.helpers.servers import Running, stub_server
from tests.serving.test_faults import post_all

HEAD = b"POST /predict HTTP/1.1\r\nhost: localhost\r\n"


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    while chunk := connection.recv(65_536):
        found += chunk
    return found


def test_an_announced_body_above_the_limit_is_refused_unread(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(HEAD + b"content-length: 200001\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert b'"content_too_large"' in answer


def test_a_body_that_grows_above_the_limit_is_refused(stub: Running) -> None:
    def chunks():
        for _ in range(100):
            yield b"x" * 10_000

    with stub.client() as client:
        reply = client.post("/predict", content=chunks())
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "content_too_large")


def test_a_request_that_arrived_whole_is_refused_and_its_connection_used_again(stub: Running) -> None:
    with stub.raw() as connection:
        for _ in range(2):
            connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nimage")
            answer = b""
            while b"not_found" not in answer:
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert b"connection: close" not in answer
        connection.sendall(HEAD + b"content-length: 5\r\n\r\nimage")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_sends_on_regardless_still_reads_the_refusal(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(HEAD + b"content-length: 3000000\r\n\r\n")
        for _ in range(300):
            connection.sendall(b"x" * 10_000)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_length_is_read(stub: Running) -> None:
    with stub.client() as client:
        assert client.post("/predict", content=iter([b"im", b"age"])).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /pre", HEAD, HEAD + b"x-header: va"])
def test_slow_headers_are_not_waited_for(stub: Running, sent: bytes) -> None:
    with stub.raw() as connection:
        connection.sendall(sent)
        answer = read_all(connection)
    assert (answer == b"") if not sent else answer.startswith(b"HTTP/1.1 408 ")


def test_headers_that_drip_are_not_waited_for(stub: Running) -> None:
    began = time.monotonic()
    with stub.raw() as connection, pytest.raises(OSError):
        connection.sendall(HEAD)
        while time.monotonic() < began + 30:
            connection.sendall(b"a: b\r\n")
            time.sleep(0.1)


@pytest.mark.parametrize("header", [b"content-length: 1000\r\n", b"transfer-encoding: chunked\r\n"])
def test_a_slow_body_is_not_waited_for(stub: Running, header: bytes) -> None:
    with stub.raw() as connection:
        connection.sendall(HEAD + header + b"\r\n")
        connection.sendall(b"3\r\nabc\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in answer


def test_a_body_that_drips_after_its_request_was_refused_is_not_waited_for(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n")
        assert b"404" in read_all(connection)


def test_a_connection_is_used_again_and_its_next_headers_timed(stub: Running) -> None:
    with stub.raw() as connection:
        for _ in range(2):
            connection.sendall(HEAD + b"content-length: 5\r\n\r\nimage")
            answer = b""
            while not answer.endswith(b"]}]}"):
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" not in answer
        connection.sendall(HEAD)
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_endless_headers_are_refused(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(HEAD + b"x: " + b"y" * 70_000)
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")


def test_what_is_not_http_is_refused(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"bad_request"' in answer


def multipart(*parts: bytes, boundary: bytes = b"cut", end: bytes = b"--cut--\r\n") -> tuple[bytes, dict[str, str]]:
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end
    return body, {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}


FILE = b'content-disposition: form-data; name="images"; filename="a.png"\r\n\r\nimage'


@pytest.mark.parametrize(
    ("parts", "end", "message"),
    [
        ([FILE, FILE], b"", "truncated"),
        ([FILE], b"--cu", "truncated"),
        ([], b"--cut--\r\n", "no image"),
        ([], b"", "truncated"),
        ([b'content-disposition: form-data; name="top"\r\n\r\n3'], b"--cut--\r\n", "pass options in the query string"),
        ([b"content-type: image/png\r\n\r\nimage"], b"--cut--\r\n", "no name"),
    ],
)
def test_a_multipart_that_is_none_is_400(stub: Running, parts: list[bytes], end: bytes, message: str) -> None:
    body, headers = multipart(*parts, end=end)
    reply = stub.post(body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_request")
    assert message in reply.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/mixed; boundary=cut"])
def test_a_multipart_of_another_kind_is_400(stub: Running, kind: str) -> None:
    assert stub.post(multipart(FILE)[0], headers={"content-type": kind}).status_code == 400


def test_a_truncated_request_is_dropped(stub: Running) -> None:
    body, headers = multipart(FILE)
    with stub.raw() as connection:
        head = HEAD + f"content-type: {headers['content-type']}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        connection.sendall(head + body[:-10])
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""


def test_form_fields_have_any_name_and_file_names_are_returned(stub: Running) -> None:
    part = b'Content-Disposition: form-data; name="file"; filename="\xc3\xbc \\"x\\".png"\r\n\r\nimage'
    body, headers = multipart(part, FILE.replace(b"a.png", b""))
    answers = stub.post(body, headers=headers).json()["predictions"]
    assert [answer["filename"] for answer in answers] == ['ü "x".png', None]


def test_more_images_than_the_queue_could_hold_are_413(stub: Running) -> None:
    body, headers = multipart(*[FILE] * 9)
    reply = stub.post(body, headers=headers)
    assert reply.status_code == 413
    assert "more than 8 images" in reply.json()["error"]["message"]
    assert stub.post(*multipart(*[FILE] * 8)[:1], headers=headers).status_code == 200


def test_a_flood_is_refused_with_the_time_to_come_back(folder: Path) -> None:
    with stub_server(folder, queue_size=4) as server:
        replies = post_all(server, [b"sleep 0.2"] * 40)
        statuses = [reply.status_code for reply in replies]
        assert set(statuses) == {200, 429}
        assert 4 <= statuses.count(200) <= 8
        refused = next(reply for reply in replies if reply.status_code == 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["code"] == "too_many_requests"
        assert server.metric("megavit_errors_total", code="too_many_requests") == statuses.count(429)
        assert server.post(b"image").status_code == 200


def test_in_a_flood_the_body_is_not_asked_for(folder: Path) -> None:
    with stub_server(folder, queue_size=1, read_timeout=30) as server, server.raw() as busy, server.raw() as late:
        busy.sendall(HEAD + b"content-length: 7\r\n\r\nsleep 1")
        server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 1)
        late.sendall(HEAD + b"content-length: 1000\r\nexpect: 100-continue\r\n\r\n")
        assert read_all(late).startswith(b"HTTP/1.1 429 ")
        assert busy.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_timeout_is_504(stub: Running) -> None:
    replies = post_all(stub, [b"sleep 2.5", b"image"])
    assert (replies[0].status_code, replies[0].json()["error"]["code"]) == (504, "gateway_timeout")
    stub.until(lambda: stub.metric("megavit_images_in_progress", model="stub") == 0)


def test_bytes_are_released_however_a_request_ends(folder: Path) -> None:
    # 8 times the largest body is the room for all: a leak of a few bodies would close the server.
    with stub_server(folder, max_request_mib=1000 / 2**20, read_timeout=1, timeout=2) as server:
        for _ in range(4):
            assert server.post(b"x" * 1000).status_code == 200
            assert server.post(b"bad" + b"x" * 990).status_code == 422
            assert server.post(b"x" * 1000, headers={"content-type": "multipart/form-data"}).status_code == 400
            body, headers = multipart(FILE + b"x" * 600, end=b"")
            assert server.post(body, headers=headers).status_code == 400
            assert server.post(b"sleep 2.5 " + b"x" * 900).status_code == 504
            with server.raw() as connection:
                connection.sendall(HEAD + b"content-length: 1000\r\n\r\n" + b"x" * 900)
                assert read_all(connection).startswith(b"HTTP/1.1 408 ")
            with server.raw() as connection:
                connection.sendall(HEAD + b"content-length: 1000\r\n\r\n" + b"x" * 900)
            with server.client() as client, pytest.raises(httpx.ReadTimeout):
                client.post("/predict", content=b"sleep 0.3 " + b"x" * 900, timeout=0.1)
        assert server.post(b"x" * 1000).status_code == 200


def test_a_client_that_reads_nothing_is_left(stub: Running) -> None:
    with stub.raw() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 100)
    assert stub.get("/health/live").status_code == 200
