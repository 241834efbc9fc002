"""Answers a shard at a time: each part is a whole file or not there, so that work which stopped goes on.

Several processes share the shards; whichever part one of them left unfinished is made anew, and no other.
"""

import json
import os
import re
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj, rmtree
from typing import Any

import numpy as np

from megavit.config.serialization import parse_json
from megavit.errors import OutputError
from megavit.runtime.storage import sync_folder, write_file, writing


def join_arrays(parts: Sequence[Path], whole: Path) -> None:
    """Write the new .npz `whole`: each array is the parts' of that name, one after the other.

    All parts have the same arrays, alike but for their first dimension and the length of texts.
    """
    first, *_ = shapes = [_shapes(part) for part in parts]
    with zipfile.ZipFile(whole, "x", zipfile.ZIP_STORED) as archive:
        for name in first:
            dtype = np.result_type(*(found[name][1] for found in shapes))
            rows = sum(found[name][0][0] for found in shapes)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, *first[name][0][1:])}
                np.lib.format.write_array_header_2_0(file, header)
                for part in parts:
                    with np.load(part, allow_pickle=False) as arrays:
                        file.write(np.ascontiguousarray(arrays[name], dtype).tobytes())


def _shapes(part: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    with np.load(part, allow_pickle=False) as arrays:
        return {name: (arrays[name].shape, arrays[name].dtype) for name in arrays.files}


RECORD = "megavit-parts.json"
# Which file the parts have become, from the moment before it takes its place.
_JOINED = ".joined"
_SECONDS_BETWEEN_LOOKS = 0.2


class ShardedOutput:
    """The parts of one output, in a folder: the output itself, or beside the file that they become.

    Args:
        output: a folder, or a file with the suffix of the parts, which are joined into it and removed.
        suffix: of the parts: .csv, .jsonl or .npz.
        shards: names of all of them.
        made_of: what the answers depend on, as plain JSON types: parts of something else are not mixed in.

    Raises:
        OutputError: where the folder has parts of something else, or cannot be made.
    """

    def __init__(self, output: Path, suffix: str, shards: Sequence[str], made_of: dict[str, Any]) -> None:
        self.output = output
        self.joined = output.suffix != ""
        self.folder = _folder_of(output) if self.joined else output
        self.shards, self.suffix = tuple(shards), suffix
        record = self.folder / RECORD
        with writing("the answers", output):
            if output.exists() and not self.joined and not output.is_dir():
                raise OutputError(f"{output} is a file; choose another --out")
            if self.folder.is_dir() and not record.exists() and _has_files(self.folder):
                raise OutputError(f"{self.folder} is not empty; choose a new folder with --out")
            self.folder.mkdir(parents=True, exist_ok=True)
            if not record.exists():
                write_file(record, json.dumps(made_of, indent=1) + "\n")
            if parse_json(record.read_bytes(), str(record), OutputError) != made_of:
                raise OutputError(
                    f"{self.folder} has answers of another bundle, of other settings or for other shards; remove it, "
                    "or choose another --out"
                )

    def path(self, shard: str) -> Path:
        """Of a shard's part."""
        return self.folder / (shard.removesuffix(".tar") + self.suffix)

    def shards_of(self, rank: int, world: int) -> tuple[str, ...]:
        """Those that process `rank` of `world` answers for."""
        return self.shards[rank::world]

    def missing(self, rank: int, world: int) -> Iterator[str]:
        """The shards of process `rank` of `world` that have no part yet."""
        yield from (shard for shard in self.shards_of(rank, world) if not self.path(shard).exists())

    @contextmanager
    def write(self, shard: str) -> Iterator[Path]:
        """A file to write, which becomes the shard's part when the block ends without an error."""
        part = self.path(shard)
        unfinished = self._new(part.name.removesuffix(self.suffix))
        try:
            yield unfinished
            with writing("the answers", part), self._unless_done(part):
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
                unfinished.replace(part)
                sync_folder(self.folder)
        finally:
            unfinished.unlink(missing_ok=True)

    def note_unread(self, shard: str, count: int) -> None:
        """Record that so many of a shard's images could not be read, before its part is there."""
        with writing("the answers", self.output):
            write_file(self._unread(shard), str(count))

    def unread(self, shards: Sequence[str]) -> int:
        """How many images of these shards could not be read, whenever their parts were written."""
        return sum(int(path.read_text()) for path in map(self._unread, shards) if path.exists())

    def wait(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Until the other processes have written theirs; False where it has `stopped` before.

        Should they not, whoever started them ends this one.
        """
        while any(not self.path(shard).exists() for shard in self.shards):
            if stopped():
                return False
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return True

    def join(self) -> None:
        """All parts as the one file, in the order of the shards; then the parts go.

        Raises:
            OutputError: where it is there already, or cannot be written.
        """
        if self.output.exists():
            raise OutputError(f"{self.output} is there already; move it away or choose another name")
        with writing("the answers", self.output), self._unless_done(self.output):
            whole = self._new("")
            _JOIN[self.suffix]([self.path(shard) for shard in self.shards], whole)
            with whole.open("rb") as file:
                os.fsync(file.fileno())
            write_file(self.folder / _JOINED, _identity(whole))
            whole.replace(self.output)
            sync_folder(self.output.parent)
            self.remove()

    def remove(self) -> None:
        """All of them, once they are joined."""
        rmtree(self.folder, ignore_errors=True)

    def tidy(self) -> None:
        """Once all parts are there, remove what processes that were killed left of others.

        Not before: such a file may be of a process that still writes it.
        """
        if any(not self.path(shard).exists() for shard in self.shards):
            return
        left = re.compile(rf"\..+-[0-9a-f]{{8}}{re.escape(self.suffix)}")
        for path in self.folder.iterdir():
            if left.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _new(self, stem: str) -> Path:
        """A hidden file to write."""
        return self.folder / f".{stem}-{secrets.token_hex(4)}{self.suffix}"

    @contextmanager
    def _unless_done(self, what: Path) -> Iterator[None]:
        """Two processes may come to write the same, where one has lost its agent: the later one's file is gone then."""
        try:
            yield
        except FileNotFoundError:
            if not what.exists() and not (self.joined and self.output.exists()):
                raise

    def _unread(self, shard: str) -> Path:
        return self.folder / f".{self.path(shard).name}.unread"


def is_merged(output: Path) -> bool:
    """Whether the file is what the parts beside it became, by a process that was killed before it removed them."""
    try:
        return (_folder_of(output) / _JOINED).read_text() == _identity(output)
    except OSError:
        return False


def _folder_of(output: Path) -> Path:
    """Of the parts that become a file."""
    return output.with_name(f"{output.name}.parts")


def _identity(path: Path) -> str:
    """What a file keeps when it is renamed."""
    found = path.stat()
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _has_files(folder: Path) -> bool:
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _join_lines(parts: Sequence[Path], whole: Path) -> None:
    _join(parts, whole, headers=0)


def _join_tables(parts: Sequence[Path], whole: Path) -> None:
    _join(parts, whole, headers=1)


def _join(parts: Sequence[Path], whole: Path, headers: int) -> None:
    """The parts one after the other, of all but the first without their header."""
    with whole.open("xb") as file:
        for place, part in enumerate(parts):
            with part.open("rb") as lines:
                for _ in range(headers if place else 0):
                    lines.readline()
                copyfileobj(lines, file, 2**20)


_JOIN: dict[str, Callable[[Sequence[Path], Path], None]] = {
    ".csv": _join_tables,
    ".jsonl": _join_lines,
    ".npz": join_arrays,
}
