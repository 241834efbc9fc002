"""What a person names on the command line: files, folders, patterns, and standard input."""

import codecs
import io
import os
import subprocess
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from megavit.data.byte_range import ByteRange
from megavit.data.decode.limits import MAX_BYTES
from megavit.data.shards.index import Damaged
from megavit.errors import DataError, ImageError
from megavit.predict.input_sources import iter_images
from megavit.predict.standard_input import MAX_BYTES_WITHOUT_PATH, MAX_PATH_BYTES, SIGNATURE


class NothingToRead(io.RawIOBase):
    """Standard input of somebody who has not asked for it: reading it would wait for ever."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("standard input was read")


def named(*sources: str, stdin: bytes | None = None) -> list[tuple[str, Any]]:
    stream: Any = NothingToRead() if stdin is None else io.BufferedReader(io.BytesIO(stdin))  # type: ignore[arg-type]
    return list(iter_images(sources, stream))


def paths(*sources: str) -> list[str]:
    found = named(*sources)
    assert all(isinstance(path, Path) and str(path) == name for name, path in found)
    return [name for name, _ in found]


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def encoded(kind: str) -> bytes:
    target = io.BytesIO()
    PIL.Image.new("RGB", (6, 5), (10, 200, 30)).save(target, kind)
    return target.getvalue()


# files and folders


def test_files_come_as_they_are_named():
    touch("b.png", "a.png")
    assert paths("b.png", "a.png", "b.png") == ["b.png", "a.png", "b.png"]


def test_a_folder_stands_for_the_files_below_it_in_order_of_name():
    touch("f/b/2.png", "f/b/1.png", "f/a.png", "f/c/d/e.png", "f/notes.txt")
    assert paths("f") == ["f/a.png", "f/b/1.png", "f/b/2.png", "f/c/d/e.png", "f/notes.txt"]


def test_hidden_files_and_folders_within_a_folder_are_left_out():
    touch("f/.hidden.png", "f/.cache/a.png", "f/a.png", ".named/b.png")
    assert paths("f") == ["f/a.png"]
    assert paths(".named", "f/.hidden.png") == [".named/b.png", "f/.hidden.png"]


def test_a_folder_without_images_is_told():
    Path("f/g").mkdir(parents=True)
    assert named("f") == [("f", Damaged("there are no images in it"))]


def test_links_are_followed_but_never_round_and_round():
    touch("f/a.png", "elsewhere/b.png")
    Path("f/loop").symlink_to("..")
    Path("f/self").symlink_to(".")
    Path("f/other").symlink_to("../elsewhere")
    Path("elsewhere/back").symlink_to("../f")
    found = paths("f")
    assert "f/a.png" in found
    assert "f/other/b.png" in found
    assert len(found) < 12


def test_a_link_that_leads_nowhere_or_to_itself_comes_out_as_it_is():
    Path("f").mkdir()
    Path("f/broken").symlink_to("none")
    Path("f/self").symlink_to("self")
    assert paths("f", "f/self") == ["f/broken", "f/self", "f/self"]


def test_a_name_of_bytes_that_are_no_text_comes_out():
    name = os.fsdecode(b"f/\xff\xe4.png")
    touch(name)
    assert paths("f", name) == [name, name]


@pytest.mark.parametrize("name", ["none.png", "no/such/thing.png", "x" * 300, "a\0b"])
def test_a_name_that_is_nothing_comes_out_as_it_is(name):
    assert paths(name) == [name]


def test_a_name_below_a_file_comes_out_as_it_is():
    touch("a.png")
    assert paths("a.png/b.png") == ["a.png/b.png"]


def test_names_are_found_as_they_are_asked_for(here):
    touch("f/a.png", "f/b/c.png")
    found = iter_images(["f", "g"], io.BytesIO())
    assert next(found)[0] == "f/a.png"
    touch("f/b/d.png", "g/e.png")
    assert [name for name, _ in found] == ["f/b/c.png", "f/b/d.png", "g/e.png"]


# patterns


def test_a_pattern_stands_for_what_it_matches_in_order():
    touch("b1.png", "a2.png", "a1.png", "a1.txt", "f/a3.png", ".a4.png")
    assert paths("a*.png") == ["a1.png", "a2.png"]
    assert paths("?1.png") == ["a1.png", "b1.png"]
    assert paths("[ab]1.png") == ["a1.png", "b1.png"]
    assert paths("**/a*.png") == ["a1.png", "a2.png", "f/a3.png"]


def test_a_pattern_may_be_absolute(here):
    touch("f/a.png")
    assert paths(f"{here}/*/*.png") == [f"{here}/f/a.png"]


def test_a_pattern_may_match_folders():
    touch("day1/a.png", "day2/b.png")
    assert paths("day*") == ["day1/a.png", "day2/b.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself():
    touch("[a].png", "a.png", "b*.png", "bc.png")
    assert paths("[a].png", "b*.png") == ["[a].png", "b*.png"]


def test_a_pattern_that_matches_nothing_comes_out_as_it_is():
    touch("a.png")
    assert paths("b*.png", "[", "f/?.png") == ["b*.png", "[", "f/?.png"]


# standard input


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_an_image_on_standard_input_is_one_image(kind):
    assert named("-", stdin=encoded(kind)) == [("-", encoded(kind))]


def test_a_large_image_comes_whole_through_a_pipe():
    content = encoded("PNG") + bytes(300_000)
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as sink:
            sink.write(content)

    writer = threading.Thread(target=write)  # a pipe holds less than all of it
    writer.start()
    with os.fdopen(reading, "rb") as stream:
        assert list(iter_images(["-"], stream)) == [("-", content)]
    writer.join()


@pytest.mark.parametrize(
    "text",
    [
        b"a.png\nb.png\nlonger-than-that.png\n",
        b"a.png\nb.png\nlonger-than-that.png",
        b"a.png\r\nb.png\r\nlonger-than-that.png\r\n",
        b"\n\na.png\n\n\r\nb.png\n\nlonger-than-that.png\n\n",
    ],
    ids=["lines", "no last newline", "CRLF", "blank lines"],
)
def test_paths_on_standard_input_come_one_a_line(text):
    expected = ["a.png", "b.png", "longer-than-that.png"]
    assert named("-", stdin=text) == [(name, Path(name)) for name in expected]


@pytest.mark.parametrize("length", range(1, 30))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_first_line_may_have_any_length(length, end):
    name = "abcdefghijklmnopqrstuvwxyz0123"[:length]
    assert [found for found, _ in named("-", stdin=name.encode() + end + b"second" + end)] == [name, "second"]


@pytest.mark.parametrize("text", [b"", b"\n", b"\r\n\r\n", b"\n" * 50])
def test_standard_input_without_a_path_names_nothing(text):
    assert named("-", stdin=text) == []


BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
line = st.binary(min_size=1).map(lambda name: name.translate(None, b"\0\r\n")).filter(bool)


@given(st.lists(line, max_size=5))
@example([b"BMW/1.jpg"])
@example([b"BM", b"b.png"])
@example([b"GIF8 images.png", b"b.png"])
@example([b"RIFFS.txt"])
@example([b"II*", b"b.png"])
@example([b"\x93NUMPY"])
def test_any_paths_come_as_they_are(lines):
    if SIGNATURE.match(b"\n".join(lines)) or (lines and lines[0].startswith(BOMS)):
        lines = [b"a", *lines]
    found = named("-", stdin=b"\n".join(lines))
    assert [os.fsencode(name) for name, _ in found] == lines
    assert [os.fsencode(path) for _, path in found if isinstance(path, Path)] == [
        os.fsencode(Path(os.fsdecode(name))) for name in lines
    ]


@given(st.lists(st.binary(min_size=1).map(lambda name: name.translate(None, b"\0\n")), min_size=2, max_size=4))
@example([b"a\rb", b"c\rd"])
@example([b"one\rname.png", b"second\rname.png"])
def test_a_carriage_return_within_a_name_belongs_to_it(lines):
    lines = [b"a" + name.rstrip(b"\r") for name in lines]
    assert [os.fsencode(name) for name, _ in named("-", stdin=b"\n".join(lines))] == lines


def test_sound_on_standard_input_is_not_taken_for_an_image():
    sound = b"RIFF\x24\x08\x00\x00WAVEfmt \x10\x00\x00\x00"
    assert all(isinstance(path, Path) for _, path in named("-", stdin=sound))


def test_paths_are_read_as_they_come():
    class Slow(io.RawIOBase):
        """Gives a line at a time, and says so."""

        def __init__(self, lines: Iterable[bytes]) -> None:
            self.lines: Iterator[bytes] = iter(lines)
            self.given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            content = next(self.lines, b"")
            self.given += bool(content)
            buffer[: len(content)] = content
            return len(content)

    slow = Slow(f"picture-{i:06}.png\n".encode() for i in range(1000))
    found = iter_images(["-"], io.BufferedReader(slow))
    assert [next(found)[0] for _ in range(3)] == [f"picture-{i:06}.png" for i in range(3)]
    assert slow.given < 10


def test_standard_input_may_stand_among_others():
    touch("f/a.png")
    assert [name for name, _ in named("f", "-", "f", stdin=b"b.png\n")] == ["f/a.png", "b.png", "f/a.png"]


def test_standard_input_is_read_once():
    assert [name for name, _ in named("-", "-", stdin=b"b.png\n")] == ["b.png"]


def test_a_path_comes_as_soon_as_its_line_does():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        found = iter_images(["-"], stream)
        for name in ("a", "photos/b.png", "BM.jpg and more"):
            pipe.write(f"{name}\n".encode())
            assert next(found) == (name, Path(name))
        pipe.write(b"the last")
        pipe.close()
        assert list(found) == [("the last", Path("the last"))]


def test_an_image_that_comes_in_pieces_is_one_image():
    content = encoded("PNG")

    class Pieces(io.RawIOBase):
        def __init__(self) -> None:
            self.left = [content[i : i + 3] for i in range(0, len(content), 3)]

        def read(self, size: int = -1) -> bytes:
            return self.left.pop(0) if self.left else b""

    pieces: Any = Pieces()
    assert list(iter_images(["-"], pieces)) == [("-", content)]


@pytest.mark.parametrize(
    "names", [["a.png", "b.png"], ["a"], ["with\na line.png", "b\r.png", "c.png"], ["a", "b", "c", "d"]]
)
def test_names_that_find_print0_writes_are_read(names):
    touch(*names)
    found = subprocess.run(["find", *names, "-print0"], capture_output=True, check=True).stdout
    assert named("-", stdin=found) == [(name, Path(name)) for name in names]
    assert named("-", stdin=found.rstrip(b"\0") + b"\0\0") == [(name, Path(name)) for name in names]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(encoding, end):
    names = ["caf\u00e9/a.png", "\U0001f331.png", "b.png"]
    mark = "\ufeff" if encoding.endswith("e") else ""
    text = (mark + end.join(names) + end).encode(encoding)
    assert named("-", stdin=text) == [(name, Path(name)) for name in names]


def test_urls_on_standard_input_are_told_one_by_one():
    first, second, third = named("-", stdin=b"https://a.example/b.jpg\nb.png\ns3://c/d.jpg\n")
    assert second == ("b.png", Path("b.png"))
    assert all("not fetched" in found.reason for _, found in (first, third))


class Endless(io.RawIOBase):
    """Gives `first`, then the same bytes for ever."""

    def __init__(self, first: bytes, more: bytes) -> None:
        self.first, self.more, self.given = first, more, 0

    def read(self, size: int = -1) -> bytes:
        content, self.first = self.first or self.more * (2**16 // len(self.more)), b""
        self.given += len(content)
        return content


@pytest.mark.parametrize(
    ("first", "more", "most"),
    [
        (encoded("PNG"), b"x", MAX_BYTES),
        (b"a.png\n", b"x", MAX_BYTES_WITHOUT_PATH),
        (b"a.png\n", b"\n", MAX_BYTES_WITHOUT_PATH),
        (b"", b"\0", MAX_BYTES_WITHOUT_PATH),
        (b"\xff\xfe", b"x\0", MAX_BYTES_WITHOUT_PATH),
    ],
    ids=["an image", "a line", "empty lines", "zeros", "UTF-16"],
)
def test_a_pipe_without_end_is_given_up(first, more, most):
    stream: Any = Endless(first, more)
    tracemalloc.start()
    found = list(iter_images(["-", "b.png"], stream))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[-1] == ("b.png", Path("b.png"))
    assert isinstance(found[-2][1], Damaged)
    assert stream.given <= 2 * most + 2**18 and peak < (2.2 * most if most == MAX_BYTES else 2**23)


def test_a_line_that_is_no_path_costs_no_other():
    text = b"a.png\n" + b"x" * 3 * MAX_PATH_BYTES + b"\nb.png\n" + b"y" * 2 * MAX_PATH_BYTES
    first, long, second, last = named("-", stdin=text)
    assert [first, second] == [(name, Path(name)) for name in ("a.png", "b.png")]
    assert len(long[0]) < 100 and "not a path" in long[1].reason and "not a path" in last[1].reason


# names that stand for nothing


def test_no_name_costs_the_others(monkeypatch):
    monkeypatch.setattr("megavit.data.remote._RETRY_SECONDS", ())
    touch("good.png", "hidden/.a.png", "index/megavit-shards.json", "cut.tar", "no shards/a.txt")
    Path("index/megavit-shards.json").write_text("{}")
    Path("cut.tar").write_bytes(b"x" * 700)
    Path("empty folder").mkdir()
    bad = [
        "https://a.example/photo.jpg",
        "https://a.example/photo.jpg?size=large",
        "http://[::1/photo.jpg",
        "s3://bucket/photo.png",
        "file:///nowhere/photo.jpg",
        "file:///nowhere/shards/",
        "http://127.0.0.1:9/shards/",
        "unknown://a/b/",
        "nowhere.tar",
        "cut.tar",
        "shard-{5..1}.tar",
        "index",
        "empty folder",
        "hidden",
        "",
    ]
    found = named(*(name for one in bad for name in (one, "good.png")))
    assert [name for name, _ in found] == [name for one in bad for name in (one, "good.png")]
    for name, image in found:
        assert image == Path("good.png") if name == "good.png" else isinstance(image, Damaged) and image.reason
    assert all("not fetched" in image.reason for name, image in found if "photo" in name)


def test_shards_whose_store_went_away_are_asked_once_and_cost_no_other(monkeypatch):
    asked = []

    class Store(ByteRange):
        def read(self) -> bytes:
            asked.append(self.file)
            raise DataError("the store does not answer")

    monkeypatch.setattr("megavit.predict.input_sources.open_shards", lambda source: ("s", None))
    shard = [(f"{i}.png", Store("s/a.tar", 0, 1, "")) for i in range(9)]
    monkeypatch.setattr("megavit.predict.input_sources.list_contents", lambda folder, index: {"a.tar": shard})
    found = named("s3://s/shards/", "good.png")
    assert len(found) == 10
    for _, image in found[:-1]:
        with pytest.raises(ImageError, match="the store does not answer"):
            image.read()
    assert len(asked) == 1
