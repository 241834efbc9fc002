"""Parts of files, on a disk, from a real HTTP server, and from a store that fsspec knows."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import DataRecipe
from megavit.data import byte_range as module
from megavit.data import remote
from megavit.data.byte_range import ByteRange, content_digest, get_file_size, iter_chunks, read_range
from megavit.data.image_dataset import ImageDataset
from megavit.data.load import load_data
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.shards.open import is_shards, open_shards
from megavit.errors import DataError, ImageError
from tests.helpers.shards import flip_bit, make_class_folders, make_shards


class Store(ThreadingHTTPServer):
    """Serves a folder by ranges; `refuse` answers are 503 first, and without `ranges` it gives whole files.

    `fault` makes it a bad one: "cut" ends connections within the body, "more" sends more than was asked for, "silent"
    does not say how much will come, "forbidden" answers 403.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.refuse, self.ranges, self.fault = root, 0, True, ""
        self.asked: list[tuple[str, str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store  # type: ignore[assignment]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None: ...

    def _answer(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append((self.command, self.path, asked))
        if self.server.refuse:
            self.server.refuse -= 1
            self._send(503, b"")
            return
        path = self.server.root / self.path.lstrip("/")
        if not path.is_file():
            self._send(404, b"")
            return
        data = path.read_bytes()
        if not asked or not self.server.ranges:
            self._send(200, data)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1]
        self._send(206 if part else 416, part)

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):  # whoever asked has heard enough
            super().handle_one_request()

    def _send(self, status: int, body: bytes) -> None:
        fault = self.server.fault
        if fault == "forbidden":
            status, body = 403, b""
        if fault == "more":
            body += bytes(10**6)
        self.send_response(status)
        if fault == "silent":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
        self.close_connection |= fault in ("cut", "silent")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(remote, "_RETRY_SECONDS", (0.0, 0.0))
    (tmp_path / "web").mkdir()
    server = Store(tmp_path / "web")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    remote.close_session()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["disk", "http", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a file of 0 to 99 lies: the beginning of its path or URL."""
    content = bytes(range(100))
    if request.param == "memory":
        fsspec.filesystem("memory").pipe("/ranges/a.tar", content)
        return "memory://ranges"
    if request.param == "disk":
        (tmp_path / "a.tar").write_bytes(content)
        return str(tmp_path)
    server = request.getfixturevalue("store")
    (server.root / "a.tar").write_bytes(content)
    return server.url


def test_a_part_is_read_wherever_the_file_is(place, monkeypatch):
    assert read_range(f"{place}/a.tar", 10, 5) == bytes(range(10, 15))
    assert read_range(f"{place}/a.tar", 10, 0) == b""
    assert get_file_size(f"{place}/a.tar") == 100
    monkeypatch.setattr(module, "_CHUNK_BYTES", 33)
    assert b"".join(iter_chunks(f"{place}/a.tar", 100)) == bytes(range(100))


@pytest.mark.parametrize("offset", [96, 100, 200])
def test_a_part_beyond_the_end_is_cut_short(place, offset):
    with pytest.raises(ImageError, match="its shard is truncated"):
        read_range(f"{place}/a.tar", offset, 5)


def test_what_is_not_there_is_told(place):
    assert get_file_size(f"{place}/b.tar") is None
    with pytest.raises(ImageError, match="its shard is missing"):
        read_range(f"{place}/b.tar", 0, 5)


def test_bytes_that_are_not_those_that_were_written_are_refused(place):
    right = ByteRange(f"{place}/a.tar", 10, 5, content_digest(bytes(range(10, 15))))
    assert right.read() == bytes(range(10, 15))
    with pytest.raises(ImageError, match="its bytes do not match their digest"):
        ByteRange(f"{place}/a.tar", 11, 5, right.digest).read()


def test_a_size_beyond_the_limit_is_refused_before_anything_is_read():
    with pytest.raises(ImageError, match="exceeds the limit"):
        ByteRange("http://127.0.0.1:1/a.tar", 0, 2**40, "").read()


def test_a_store_that_refuses_for_a_while_is_asked_again(store):
    (store.root / "a.tar").write_bytes(bytes(100))
    store.refuse = 2
    assert read_range(f"{store.url}/a.tar", 0, 10) == bytes(10)
    store.refuse = 3
    with pytest.raises(DataError, match="cannot be read: the server responded with 503 Service Unavailable; try again"):
        read_range(f"{store.url}/a.tar", 0, 10)


def test_a_store_that_cannot_be_reached_says_nothing_against_the_image(monkeypatch):
    monkeypatch.setattr(remote, "_RETRY_SECONDS", ())
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_range("http://127.0.0.1:9/a.tar", 0, 10)
    assert not isinstance(caught.value, ImageError)


def test_a_server_that_knows_no_ranges_is_named(store):
    (store.root / "a.tar").write_bytes(bytes(100))
    store.ranges = False
    with pytest.raises(DataError, match="does not support range requests: copy the shards to a local folder"):
        read_range(f"{store.url}/a.tar", 0, 10)


def test_a_whole_file_may_be_answered_as_one(store):
    (store.root / "a.tar").write_bytes(bytes(range(100)))
    store.ranges = False
    assert read_range(f"{store.url}/a.tar", 0, 100) == bytes(range(100))


@pytest.mark.parametrize(
    ("fault", "message", "asked"),
    [
        ("cut", "cannot be read: .*; try again later", 4),
        ("more", "sends more bytes than requested: copy the shards to a local folder", 1),
        ("forbidden", "cannot be read: the server responded with 403 Forbidden", 1),
    ],
)
def test_a_bad_server_is_told_and_asked_again_only_where_that_may_help(fault, message, asked, store, monkeypatch):
    monkeypatch.setattr(remote, "_RETRY_SECONDS", (0.0, 0.0, 0.0))
    (store.root / "a.tar").write_bytes(bytes(100))
    store.fault = fault
    with pytest.raises(DataError, match=message) as caught:
        read_range(f"{store.url}/a.tar", 0, 10)
    assert not isinstance(caught.value, ImageError)
    assert len(store.asked) == asked


def test_a_server_that_does_not_say_how_large_a_file_is(store):
    (store.root / "a.tar").write_bytes(bytes(100))
    store.fault = "silent"
    with pytest.raises(DataError, match="does not report its size: copy the shards to a local folder"):
        get_file_size(f"{store.url}/a.tar")


def test_no_url_is_told(store):
    with pytest.raises(DataError, match="cannot be read"):
        get_file_size("http://[/a.tar")


def test_an_error_of_a_kind_that_only_the_store_knows_is_a_message(monkeypatch):
    class Odd(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise Odd("no credentials\nand much more")

    monkeypatch.setattr(remote, "_RETRY_SECONDS", (0.0,))
    for method in ("cat_file", "size"):
        monkeypatch.setattr(fsspec.filesystem("memory").__class__, method, fail)
    for ask in (lambda: read_range("memory://a.tar", 0, 10), lambda: get_file_size("memory://a.tar")):
        with pytest.raises(DataError, match=r"'memory://a.tar' cannot be read: no credentials; try again"):
            ask()


def test_a_store_without_its_library_is_named():
    with pytest.raises(DataError, match=r"(?i)s3fs"):
        read_range("s3://bucket/a.tar", 0, 10)
    with pytest.raises(DataError, match=r"'odd://bucket/a.tar' cannot be read: Protocol not known"):
        read_range("odd://bucket/a.tar", 0, 10)


def test_shards_on_a_server_are_data_like_those_on_a_disk(store, tmp_path):
    index = make_shards(make_class_folders(tmp_path / "in"), store.root / "shards")
    here = load_data(store.root / "shards", DataRecipe())
    there = load_data(f"{store.url}/shards", DataRecipe())
    assert is_shards(store.url)
    assert (there.samples, there.fingerprint(), there.root) == (here.samples, here.fingerprint(), None)
    store.asked.clear()
    assert (there.load_pixels(there.samples[5]) == here.load_pixels(here.samples[5])).all()
    at = here.samples[5].location
    assert at is not None
    name = Path(at.file).name
    assert store.asked == [("GET", f"/shards/{name}", f"bytes={at.offset}-{at.offset + at.size - 1}")]
    flip_bit(store.root / "shards" / index.shards[0].name, index.shards[0].members[0].offset + 60)
    pictures = ImageDataset(there, there.samples, Preprocessing(height=2, width=2, channels=1))
    batches = [torch.as_tensor(batch) for batch in iter_batches(pictures, sequential_batches(60, 25), 1)]
    expected = ImageDataset(here, here.samples, pictures.preprocessing)
    assert torch.equal(torch.cat(batches), torch.stack([expected[place] for place in range(60)]))
    damaged = load_data(f"{store.url}/shards/", DataRecipe(), verify="all").skipped
    assert [skipped.name for skipped in damaged] == [index.shards[0].members[0].name]


def test_shards_of_others_on_a_server_are_indexed_by_reading_them_once(store, tmp_path):
    index = make_shards(make_class_folders(tmp_path / "in", 90), store.root / "shards")
    (store.root / "shards" / "megavit-shards.json").unlink()
    with pytest.raises(DataError, match=r"there is no megavit-shards.json at .*train-\{0000..0031\}.tar"):
        open_shards(f"{store.url}/shards")
    store.asked.clear()
    _, found = open_shards(f"{store.url}/shards/data-{{000000..{len(index.shards) - 1:06}}}.tar")
    assert found.images == 90
    assert [(shard.name, shard.sha256) for shard in found.shards] == [
        (shard.name, shard.sha256) for shard in index.shards
    ]
    assert len([method for method, *_ in store.asked if method == "GET"]) == len(index.shards)
