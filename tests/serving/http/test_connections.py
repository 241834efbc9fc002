"""What clients do to a connection: upgrades, trailers, pipelines, line breaks, and too many of all that."""

import contextlib
import socket
import threading
from pathlib import Path

import psutil
import pytest

from megavit.serving.http import connections
from tests.helpers.servers import Running, peak_above, stub_server
from tests.serving.test_limits import HEAD, read_all

GET = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = HEAD + b"content-length: 5\r\n\r\nimage"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nimage\r\n0\r\n"
MIB = 2**20


def statuses(answers: bytes) -> list[int]:
    """Of all answers in these bytes."""
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def read_statuses(connection: socket.socket, count: int) -> list[int]:
    """Statuses of so many answers, on a connection that stays open."""
    came = b""
    while len(statuses(came)) < count or not came.endswith(b"}"):
        chunk = connection.recv(65_536)
        assert chunk, came
        came += chunk
    return statuses(came)


def send_repeatedly(connection: socket.socket, part: bytes, most: int) -> None:
    """Send until the server has had enough."""
    with contextlib.suppress(OSError):
        for _ in range(most // len(part)):
            connection.sendall(part)


@pytest.mark.parametrize("asked", [b"h2c", b"websocket", b"TLS/1.0, HTTP/2.0"])
@pytest.mark.parametrize(
    "framing", [b"content-length: 5\r\n\r\nimage", b"transfer-encoding: chunked\r\n\r\n5\r\nimage\r\n0\r\n\r\n"]
)
def test_a_request_to_upgrade_the_protocol_is_answered_like_any_other(
    stub: Running, asked: bytes, framing: bytes
) -> None:
    upgrade = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: " + asked + b"\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
    with stub.raw() as connection:
        for _ in range(2):
            connection.sendall((HEAD + upgrade + framing) * 2 + POST)
            assert read_statuses(connection, 3) == [200] * 3
        whole = HEAD + upgrade + framing + GET
        for place in range(len(whole)):  # in pieces, however they are cut
            connection.sendall(whole[place : place + 1])
        assert read_statuses(connection, 2) == [200] * 2


def test_the_tunnel_of_a_proxy_is_refused(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n" + GET)
        assert statuses(read_all(connection)) == [400]


def test_trailers_are_read_and_are_no_headers(folder: Path) -> None:
    with stub_server(folder, api_key="key") as server, server.raw() as connection:
        connection.sendall(CHUNKED + b"authorization: Bearer key\r\n\r\n")
        assert read_statuses(connection, 1) == [401]
    with stub_server(folder) as server, server.raw() as connection:
        connection.sendall(CHUNKED + b"x-sum: 1\r\n\r\n" + GET)
        assert read_statuses(connection, 2) == [200, 200]


@pytest.mark.parametrize("part", [b"a: b\r\n" * 1000, b"x" * 6000, b"a:\r\n" * 1500])
def test_trailers_without_end_are_refused_and_cost_no_memory(folder: Path, part: bytes) -> None:
    with stub_server(folder) as server, server.raw() as connection, peak_above(server.process.pid, 24):
        connection.sendall(CHUNKED + b"t: ")
        send_repeatedly(connection, part, 256 * MIB)
        with contextlib.suppress(ConnectionResetError):
            assert statuses(read_all(connection)) in ([431], [])
        assert server.post(b"image").status_code == 200
        assert server.metric("megavit_errors_total", code="request_header_fields_too_large") == 1


def test_the_sizes_of_chunks_are_no_place_for_more(folder: Path) -> None:
    with stub_server(folder) as server, server.raw() as connection, peak_above(server.process.pid, 24):
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n5;x=")
        send_repeatedly(connection, b"y" * 6000, 64 * MIB)
        assert server.post(b"image").status_code == 200
        assert server.metric("megavit_errors_total", code="request_header_fields_too_large") == 1


def test_more_headers_than_anyone_needs_are_refused(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(HEAD + b"a:\r\n" * 200 + b"content-length: 5\r\n\r\nimage" + GET)
        assert statuses(read_all(connection)) == [431]


def test_an_address_longer_than_any_of_ours_is_refused(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(POST.replace(b"/predict", b"/predict?" + b"a&" * 5000) + GET)
        assert statuses(read_all(connection)) == [414]


def test_a_body_in_crumbs_is_refused_and_one_in_small_pieces_read(stub: Running) -> None:
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    with stub.raw() as connection:
        connection.sendall(head + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n")
        assert read_statuses(connection, 1) == [200]
        connection.sendall(head + (b"40\r\n" + b"x" * 64 + b"\r\n") * 2000 + b"0\r\n\r\n")
        assert read_statuses(connection, 1) == [200]
        connection.sendall(head + b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n")
        assert statuses(read_all(connection)) == [400]


def test_a_content_type_that_takes_time_to_take_apart_is_refused(stub: Running) -> None:
    kind = 'multipart/form-data; boundary="' + ";" * 50_000
    assert stub.post(b"image", headers={"content-type": kind}).status_code == 400


@pytest.mark.parametrize("between", [b"\r\n", b"\n"])
def test_line_breaks_keep_no_connection_open(folder: Path, between: bytes) -> None:
    with stub_server(folder, keep_alive=0.5, read_timeout=30) as server, server.raw() as connection:
        for _ in range(2):  # a used one
            connection.sendall(b"\r\n" + POST)
            assert read_statuses(connection, 1) == [200]
        closed = threading.Event()
        threading.Thread(target=lambda: (read_all(connection), closed.set())).start()
        with contextlib.suppress(OSError):
            for _ in range(600):
                connection.sendall(between)
                if closed.wait(0.1):
                    break
        assert closed.is_set()


def test_requests_behind_each_other_are_answered_in_order(stub: Running) -> None:
    with stub.raw() as connection:
        connection.sendall(
            HEAD + b"content-length: 9\r\n\r\nsleep 0.3" + POST + HEAD + b"content-length: 3\r\n\r\nbad" + GET * 30
        )
        assert read_statuses(connection, 33) == [200, 200, 422, *[200] * 30]


def test_a_request_behind_a_slow_one_has_its_own_time(folder: Path) -> None:
    with stub_server(folder, read_timeout=0.5, timeout=20) as server, server.raw() as connection:
        connection.sendall(
            HEAD + b"content-length: 9\r\n\r\nsleep 1.5" + HEAD + b"content-length: 150000\r\n\r\n" + b"x" * 75_000
        )
        connection.sendall(b"x" * 75_000)
        assert read_statuses(connection, 2) == [200, 200]


def test_an_error_behind_a_request_does_not_cost_its_response(stub: Running) -> None:
    for wrong in (
        b"\x16\x03\x01 hello\r\n\r\n",
        HEAD + b"x: " + b"y" * 300_000,
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ):
        with stub.raw() as connection:
            connection.sendall(HEAD + b"content-length: 9\r\n\r\nsleep 0.3" + POST + wrong)
            assert statuses(read_all(connection)) == [200, 200]


def test_a_flood_behind_a_request_is_not_taken_in(folder: Path) -> None:
    with stub_server(folder, timeout=3) as server, peak_above(server.process.pid, 48):
        connections = [server.raw() for _ in range(8)]
        for connection in connections:
            connection.settimeout(0.3)
            connection.sendall(HEAD + b"content-length: 9\r\n\r\nsleep 1.0")
            send_repeatedly(connection, b"GET / HTTP/1.1\r\n\r\n" * 3000, 4 * MIB)
        assert server.get("/health/live").status_code == 200
        for connection in connections:
            connection.close()
        server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 0)


def test_a_client_that_goes_with_requests_behind_the_first_frees_its_place(folder: Path) -> None:
    with stub_server(folder, timeout=30) as server:
        with server.raw() as connection:
            connection.sendall(HEAD + b"content-length: 9\r\n\r\nsleep 0.3" + POST * 3)
            server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 1)
        server.until(lambda: [line for line in server.events("request") if line.get("disconnected")])


@pytest.mark.parametrize(
    "wrong",
    [
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nimage",
        HEAD + b"content-length: +5\r\n\r\nimage",
        HEAD + b"content-length: 5, 5\r\n\r\nimage",
        HEAD + b"content-length : 5\r\n\r\nimage",
        HEAD + b"content-length: 0x5\r\n\r\nimage",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\nimage",
        HEAD + b"transfer-encoding: gzip\r\n\r\nimage",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\nimage\n0\n\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n-5\r\nimage\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nimage!\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nimage\r\n0\r\n\r\n",
        HEAD + b"x: a\r\n folded: b\r\ncontent-length: 5\r\n\r\nimage",
        HEAD + b"x: a\rcontent-length: 5\r\n\r\nimage",
        HEAD + b"x\0: a\r\ncontent-length: 5\r\n\r\nimage",
        b"POST /predict HTTP/1.1\nhost: localhost\ncontent-length: 5\n\nimage",
        b"POST /predict HTTP/9.9\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nimage",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_request_that_two_readers_could_cut_differently_is_refused_with_all_behind_it(
    stub: Running, wrong: bytes
) -> None:
    with stub.raw() as connection:
        connection.sendall(wrong + GET)
        assert statuses(read_all(connection)) == [400]


def test_without_descriptors_connections_are_refused_and_logged_and_later_ones_served(folder: Path) -> None:
    with stub_server(folder, read_timeout=60) as server, contextlib.ExitStack() as held:
        process = psutil.Process(server.process.pid)
        process.rlimit(psutil.RLIMIT_NOFILE, (100, 100))
        first = held.enter_context(server.raw())
        for _ in range(100):
            held.enter_context(server.raw())
        server.until(lambda: server.events("too_many_connections"))
        first.sendall(POST)
        assert read_statuses(first, 1) == [200]
        server.workers()[0].kill()  # which is started again all the same
        server.until(lambda: len(server.events("model_ready")) == 2)
        held.close()
        server.until(lambda: len(process.net_connections()) < 5)
        with server.raw() as connection:
            connection.sendall(POST)
            assert read_statuses(connection, 1) == [200]
        assert len(server.events("too_many_connections")) <= 2


def test_the_first_client_too_many_reads_why(folder: Path) -> None:
    with stub_server(folder) as server, contextlib.ExitStack() as held:
        process = psutil.Process(server.process.pid)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 40, 4096))
        came: list[bytes] = []
        while not any(came):
            connection = held.enter_context(server.raw())
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                came.append(read_all(connection))
        assert came[-1].startswith(b"HTTP/1.1 503 service_unavailable\r\n")
        assert b"retry-after: 2\r\n" in came[-1]


def test_where_descriptors_are_not_counted_connections_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where a socket may have any number."""

    class Transport:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    monkeypatch.setattr(connections, "get_open_files_limit", lambda: None)
    limit, transport = connections.ConnectionLimit(), Transport()
    most = connections.MAX_DESCRIPTORS
    assert limit.check(transport, most - connections.SPARE_DESCRIPTORS - 1) is None  # type: ignore[arg-type]
    refused = limit.check(transport, most - connections.SPARE_DESCRIPTORS)  # type: ignore[arg-type]
    assert refused is not None and refused.status == 503 and not transport.aborted
    assert limit.check(transport, most) is not None and transport.aborted  # type: ignore[arg-type]
