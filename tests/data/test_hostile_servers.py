"""Servers that are slow, endless, or out to reach what only this machine can: each ends in one sentence."""

import gzip
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from megavit.data import remote
from megavit.data.byte_range import get_file_size, read_range
from megavit.data.shards.open import MAX_INDEX_BYTES, open_shards
from megavit.errors import DataError

Reply = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Answers every request as `reply` does, and notes it."""

    daemon_threads = True

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        with suppress(ConnectionError):  # whoever asked has heard enough
            self.server.reply(self)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None: ...

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving(reply: Reply) -> Iterator[Server]:
    server = Server(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Reply], Server]]:
    monkeypatch.setattr(remote, "_RETRY_SECONDS", ())
    with ExitStack() as stack:
        yield lambda reply: stack.enter_context(serving(reply))
        remote.close_session()


def content(handler: Handler) -> None:
    handler.answer(206, {}, b"0123456789")


def sent_on(where: str) -> Reply:
    return lambda handler: handler.answer(302, {"Location": where})


@pytest.mark.parametrize("ask", [lambda url: get_file_size(url), lambda url: read_range(url, 0, 10)])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"])
def test_no_other_server_is_asked_for_what_one_sends_on_to(serve, ask, host):
    inner = serve(content)
    outer = serve(sent_on(f"http://{host}:{inner.server_address[1]}/secret"))
    with pytest.raises(DataError, match=r"redirects to another server, .*, which is not followed: pass the URLs there"):
        ask(f"{outer.url}/a.tar")
    assert inner.asked == [] and len(outer.asked) == 1


@pytest.mark.parametrize(
    "where", ["http://169.254.169.254/latest", "//10.0.0.1/a", "ftp://127.0.0.1/a", "file:///etc/passwd", "https://x/"]
)
def test_nothing_but_the_same_host_and_kind_of_server_is_followed(serve, where):
    outer = serve(sent_on(where))
    with pytest.raises(DataError, match="redirects to another"):
        read_range(f"{outer.url}/a.tar", 0, 10)


def test_the_same_server_may_send_on_to_another_path(serve):
    def reply(handler: Handler) -> None:
        (content if handler.path == "/b.tar" else sent_on("/b.tar"))(handler)

    server = serve(reply)
    assert read_range(f"{server.url}/a.tar", 0, 10) == b"0123456789"
    assert get_file_size(f"{server.url}/a.tar") == 10


def test_being_sent_on_and_on_has_an_end(serve):
    server = serve(sent_on("/a.tar"))
    with pytest.raises(DataError, match="redirects more than 5 times: pass the final URLs"):
        read_range(f"{server.url}/a.tar", 0, 10)
    assert len(server.asked) == remote.MAX_REDIRECTS + 1


def test_a_public_host_that_is_suddenly_at_a_private_address_is_not_read(serve):
    server = serve(content)
    url = f"{server.url}/a.tar"
    assert read_range(url, 0, 10) == b"0123456789"
    remote._session(remote.os.getpid()).public["127.0.0.1"] = True
    with pytest.raises(DataError, match=r"had a public address and now has the private address 127\.0\.0\.1"):
        read_range(url, 0, 10)


def drip_body(handler: Handler) -> None:
    handler.send_response(206)
    handler.send_header("Content-Length", "100000000")
    handler.end_headers()
    drip(handler)


def drip_head(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.0 206 Partial Content\r\nX-Long: ")
    drip(handler)


def drip(handler: Handler) -> None:
    while True:
        handler.wfile.write(b"a")
        time.sleep(0.05)


@pytest.mark.parametrize("reply", [drip_body, drip_head])
def test_a_byte_every_now_and_then_is_no_answer(serve, monkeypatch, reply):
    monkeypatch.setattr(remote, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(remote, "_RETRY_SECONDS", (0.0,) * 3)
    server = serve(reply)
    with pytest.raises(DataError, match="is too slow, or its response never ends"):
        read_range(f"{server.url}/a.tar", 0, 10**8)
    assert len(server.asked) == 1


def test_an_index_that_announces_40_gib_is_refused_before_it_is_read(serve):
    def reply(handler: Handler) -> None:
        handler.answer(200, {"Content-Length": str(40 * 2**30)})

    server = serve(reply)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=f"has 42,949,672,960 bytes, but an index may have at most {MAX_INDEX_BYTES:,}"):
        open_shards(f"{server.url}/shards")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**14  # 16 MiB
    assert [method for method, _ in server.asked] == ["HEAD"]


@pytest.mark.parametrize("size", ["9" * 5000, "-1", "1e9", "²"])
def test_a_size_that_is_none_is_told(serve, size):
    server = serve(lambda handler: handler.answer(200, {"Content-Length": size}))
    with pytest.raises(DataError, match="cannot be read"):
        get_file_size(f"{server.url}/a.tar")


def test_what_is_compressed_without_being_asked_for_is_not_inflated(serve):
    bomb = gzip.compress(bytes(10**8))
    server = serve(lambda handler: handler.answer(206, {"Content-Encoding": "gzip"}, bomb))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_range(f"{server.url}/a.tar", 0, len(bomb)) == bomb
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**14
