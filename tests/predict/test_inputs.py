"""What a person names on the command line: files, folders, patterns, and standard input."""

import io
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from megavit.data.ranges import Range
from megavit.data.shards.index import Damaged
from megavit.predict.inputs import SIGNATURE, images_named


class NothingToRead(io.RawIOBase):
    """Standard input of somebody who has not asked for it: reading it would wait for ever."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("standard input was read")


def named(*sources: str, stdin: bytes | None = None) -> list[tuple[str, Path | bytes | Range | Damaged]]:
    stream: Any = NothingToRead() if stdin is None else io.BufferedReader(io.BytesIO(stdin))  # type: ignore[arg-type]
    return list(images_named(sources, stream))


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


def test_an_empty_folder_stands_for_nothing():
    Path("f/g").mkdir(parents=True)
    assert paths("f") == []


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
    found = images_named(["f", "g"], io.BytesIO())
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
        assert list(images_named(["-"], stream)) == [("-", content)]
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


line = st.binary(min_size=1).map(lambda name: name.translate(None, b"\0\r\n")).filter(bool)


@given(st.lists(line, max_size=5))
@example([b"BMW/1.jpg"])
@example([b"BM", b"b.png"])
@example([b"GIF8 images.png", b"b.png"])
@example([b"RIFFS.txt"])
@example([b"II*", b"b.png"])
@example([b"\x93NUMPY"])
def test_any_paths_come_as_they_are(lines):
    if SIGNATURE.match(b"\n".join(lines)):
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
    found = images_named(["-"], io.BufferedReader(slow))
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
        found = images_named(["-"], stream)
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
    assert list(images_named(["-"], pieces)) == [("-", content)]
