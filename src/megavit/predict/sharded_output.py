"""Output files of one shard each: every part is complete or absent, so that interrupted work is resumed.

Several processes share the shards; only the parts that are not complete are computed again.
"""

import json
import os
import re
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import copyfileobj, rmtree
from typing import Any

import numpy as np

from megavit.config.serialization import parse_json
from megavit.errors import OutputError
from megavit.runtime.storage import sync_folder, write_file, writing


def concatenate_npz(parts: Sequence[Path], target: Path) -> None:
    """Write the new .npz file `target`, each of whose arrays is the parts' arrays of that name, concatenated.

    All parts have the same arrays, alike except for their first dimension and the length of texts.
    """
    first, *_ = headers = [_read_headers(part) for part in parts]
    with zipfile.ZipFile(target, "x", zipfile.ZIP_STORED) as archive:
        for name in first:
            dtype = np.result_type(*(arrays[name][1] for arrays in headers))
            rows = sum(arrays[name][0][0] for arrays in headers)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, *first[name][0][1:])}
                np.lib.format.write_array_header_2_0(file, header)
                for part in parts:
                    with np.load(part, allow_pickle=False) as arrays:
                        file.write(np.ascontiguousarray(arrays[name], dtype).tobytes())


def _read_headers(part: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    with np.load(part, allow_pickle=False) as arrays:
        return {name: (arrays[name].shape, arrays[name].dtype) for name in arrays.files}


RECORD = "megavit-parts.json"
_MERGED = ".merged"
"""Names the file that the parts were merged into, from the moment before it takes its place."""
_POLL_SECONDS = 0.2


class ShardedOutput:
    """The parts of one output, a file for each shard.

    Args:
        output: a folder for the parts, or a file with their suffix, which they are merged into.
        suffix: of the parts: .csv, .jsonl or .npz.
        shards: names of all of them.
        inputs: what the output depends on, as plain JSON types: parts of other inputs are not mixed in.

    Raises:
        OutputError: where the folder has parts of other inputs, or cannot be made.
    """

    def __init__(self, output: Path, suffix: str, shards: Sequence[str], inputs: dict[str, Any]) -> None:
        self.output = output
        self.is_file = output.suffix != ""
        self.folder = _parts_folder(output) if self.is_file else output
        self.shards, self.suffix = tuple(shards), suffix
        record = self.folder / RECORD
        with writing("the output", output):
            if output.exists() and not self.is_file and not output.is_dir():
                raise OutputError(f"{output} is a file; choose another --out")
            if self.folder.is_dir() and not record.exists() and _has_files(self.folder):
                raise OutputError(f"{self.folder} is not empty; choose a new folder with --out")
            self.folder.mkdir(parents=True, exist_ok=True)
            if not record.exists():
                write_file(record, json.dumps(inputs, indent=1) + "\n")
            if parse_json(record.read_bytes(), str(record), OutputError) != inputs:
                raise OutputError(
                    f"{self.folder} has the output of another bundle, other settings or other shards; remove it, "
                    "or choose another --out"
                )

    def path(self, shard: str) -> Path:
        """Return the path of a shard's part."""
        return self.folder / (shard.removesuffix(".tar") + self.suffix)

    def shards_of(self, rank: int, world: int) -> tuple[str, ...]:
        """Return the shards of process `rank` of `world`."""
        return self.shards[rank::world]

    def missing(self, rank: int, world: int) -> Iterator[str]:
        """Yield the shards of process `rank` of `world` that have no part yet."""
        yield from (shard for shard in self.shards_of(rank, world) if not self.path(shard).exists())

    @contextmanager
    def write(self, shard: str) -> Iterator[Path]:
        """Give the path of a file to write, which becomes the shard's part when the block ends without an error."""
        part = self.path(shard)
        unfinished = self._new(part.name.removesuffix(self.suffix))
        try:
            yield unfinished
            with writing("the output", part), self._unless_done(part):
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
                unfinished.replace(part)
                sync_folder(self.folder)
        finally:
            unfinished.unlink(missing_ok=True)

    def record_unreadable(self, shard: str, count: int) -> None:
        """Record how many of a shard's images could not be read, before its part is there."""
        with writing("the output", self.output):
            write_file(self._unreadable_file(shard), str(count))

    def count_unreadable(self, shards: Sequence[str]) -> int:
        """Return how many images of these shards could not be read, whenever their parts were written."""
        return sum(int(path.read_text()) for path in map(self._unreadable_file, shards) if path.exists())

    def wait(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the other processes' parts; return False if `stopped` says so first.

        Should one of them fail, its launcher ends this process.
        """
        while any(not self.path(shard).exists() for shard in self.shards):
            if stopped():
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def merge(self) -> None:
        """Merge all parts into the output file, in the order of the shards, and remove them.

        Raises:
            OutputError: where it is there already, or cannot be written.
        """
        if self.output.exists():
            raise OutputError(f"{self.output} is there already; move it away or choose another name")
        with writing("the output", self.output), self._unless_done(self.output):
            merged = self._new("")
            _MERGE[self.suffix]([self.path(shard) for shard in self.shards], merged)
            with merged.open("rb") as file:
                os.fsync(file.fileno())
            write_file(self.folder / _MERGED, _identity(merged))
            merged.replace(self.output)
            sync_folder(self.output.parent)
            self.remove()

    def remove(self) -> None:
        """Remove all parts, once they are merged."""
        rmtree(self.folder, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove the unfinished files of processes that were killed, once all parts are there.

        Not before: a process may still write such a file.
        """
        if any(not self.path(shard).exists() for shard in self.shards):
            return
        leftover = re.compile(rf"\..+-[0-9a-f]{{8}}{re.escape(self.suffix)}")
        for path in self.folder.iterdir():
            if leftover.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _new(self, stem: str) -> Path:
        """Return the path of a hidden file to write."""
        return self.folder / f".{stem}-{secrets.token_hex(4)}{self.suffix}"

    @contextmanager
    def _unless_done(self, target: Path) -> Iterator[None]:
        """Ignore a missing file if another process has written `target` meanwhile, as a restarted one may."""
        try:
            yield
        except FileNotFoundError:
            if not target.exists() and not (self.is_file and self.output.exists()):
                raise

    def _unreadable_file(self, shard: str) -> Path:
        return self.folder / f".{self.path(shard).name}.unreadable"


def is_merged(output: Path) -> bool:
    """Return whether a process merged the parts into the file, and was killed before it removed them."""
    try:
        return (_parts_folder(output) / _MERGED).read_text() == _identity(output)
    except OSError:
        return False


def _parts_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.parts")


def _identity(path: Path) -> str:
    """Return what a file keeps when it is renamed."""
    status = path.stat()
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _has_files(folder: Path) -> bool:
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _concatenate_text(parts: Sequence[Path], target: Path, *, has_header: bool = False) -> None:
    """Concatenate the parts, all but the first without their header line."""
    with target.open("xb") as file:
        for index, part in enumerate(parts):
            with part.open("rb") as lines:
                if index and has_header:
                    lines.readline()
                copyfileobj(lines, file, 2**20)


_MERGE: dict[str, Callable[[Sequence[Path], Path], None]] = {
    ".csv": partial(_concatenate_text, has_header=True),
    ".jsonl": _concatenate_text,
    ".npz": concatenate_npz,
}
