"""Write output in one part per shard, each complete or absent, so that interrupted work can be resumed."""

import json
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
from megavit.runtime.storage import sync_file, sync_folder, write_file, writing


def concatenate_npz(parts: Sequence[Path], target: Path) -> None:
    """Write a new .npz file with the arrays of all parts, concatenated by name along the first dimension.

    All parts have the same arrays, except for the first dimension and the length of strings.
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
_MERGED = ".merged"  # has the identity of the merged file; written just before the file is moved into place
_POLL_SECONDS = 0.2


class ShardedOutput:
    """An output that consists of one part file per shard.

    Args:
        output: a folder for the parts, or the file that the parts are merged into.
        suffix: suffix of the parts: .csv, .jsonl or .npz.
        inputs: settings that the output depends on, as JSON types; the parts must all have the same.

    Raises:
        OutputError: if the folder contains parts for other inputs, or cannot be created.
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
                    f"{self.folder} has the output of another bundle, other settings or other shards: remove it "
                    "or choose another --out"
                )

    def path(self, shard: str) -> Path:
        """Return the path of the part of a shard."""
        return self.folder / (shard.removesuffix(".tar") + self.suffix)

    def shards_of(self, rank: int, world: int) -> tuple[str, ...]:
        """Return the shards assigned to process `rank` of `world`."""
        return self.shards[rank::world]

    def missing(self, rank: int, world: int) -> Iterator[str]:
        """Yield the shards assigned to process `rank` of `world` whose parts are missing."""
        yield from (shard for shard in self.shards_of(rank, world) if not self.path(shard).exists())

    @contextmanager
    def write(self, shard: str) -> Iterator[Path]:
        """Yield a temporary path to write to, which becomes the shard's part if the block succeeds."""
        part = self.path(shard)
        unfinished = self._new(part.name.removesuffix(self.suffix))
        try:
            yield unfinished
            with writing("the output", part), self._unless_done(part):
                sync_file(unfinished)
                unfinished.replace(part)
                sync_folder(self.folder)
        finally:
            unfinished.unlink(missing_ok=True)

    def record_unreadable(self, shard: str, count: int) -> None:
        """Record the number of unreadable images in a shard; call this before its part is complete."""
        with writing("the output", self.output):
            write_file(self._unreadable_file(shard), str(count))

    def count_unreadable(self, shards: Sequence[str]) -> int:
        """Return the recorded number of unreadable images in these shards."""
        return sum(int(path.read_text()) for path in map(self._unreadable_file, shards) if path.exists())

    def wait(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the parts of all processes; return False if `stopped` returns True first."""
        while any(not self.path(shard).exists() for shard in self.shards):
            if stopped():
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def merge(self) -> None:
        """Merge all parts into a new output file and remove them; raise an OutputError if it cannot be written."""
        if self.output.exists():
            raise OutputError(f"{self.output} already exists: move it or choose another name")
        with writing("the output", self.output), self._unless_done(self.output):
            merged = self._new("")
            _MERGE[self.suffix]([self.path(shard) for shard in self.shards], merged)
            sync_file(merged)
            write_file(self.folder / _MERGED, _identity(merged))
            merged.replace(self.output)
            sync_folder(self.output.parent)
            self.remove()

    def remove(self) -> None:
        """Remove the folder of the parts."""
        rmtree(self.folder, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove the temporary files left by killed processes once all parts are complete."""
        if any(not self.path(shard).exists() for shard in self.shards):
            return
        leftover = re.compile(rf"\..+-[0-9a-f]{{8}}{re.escape(self.suffix)}")
        for path in self.folder.iterdir():
            if leftover.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _new(self, stem: str) -> Path:
        return self.folder / f".{stem}-{secrets.token_hex(4)}{self.suffix}"

    @contextmanager
    def _unless_done(self, target: Path) -> Iterator[None]:
        """Ignore a missing file if another process, such as a restarted one, has written `target` meanwhile."""
        try:
            yield
        except FileNotFoundError:
            if not target.exists() and not (self.is_file and self.output.exists()):
                raise

    def _unreadable_file(self, shard: str) -> Path:
        return self.folder / f".{self.path(shard).name}.unreadable"


def is_merged(output: Path) -> bool:
    """Return whether `output` was merged by a process that was killed before it removed the parts."""
    try:
        return (_parts_folder(output) / _MERGED).read_text() == _identity(output)
    except OSError:
        return False


def _parts_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.parts")


def _identity(path: Path) -> str:
    """Return a string that identifies a file, unchanged when the file is renamed."""
    status = path.stat()
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _has_files(folder: Path) -> bool:
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _concatenate_text(parts: Sequence[Path], target: Path, *, has_header: bool = False) -> None:
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
