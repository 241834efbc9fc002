"""Answers a shard at a time: each part is a whole file or not there, so that work which stopped goes on.

Several processes share the shards; whichever part one of them left unfinished is made anew, and no other.
"""

import io
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from megavit.config.files import parse_json
from megavit.errors import OutputError
from megavit.runtime.storage import sync_folder, write_file, writing

RECORD = "megavit-parts.json"
_SECONDS_BETWEEN_LOOKS = 0.2


class Parts:
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
        self.folder = output.with_name(f"{output.name}.parts") if self.joined else output
        self.shards, self.suffix = tuple(shards), suffix
        record = self.folder / RECORD
        with writing("the answers", output):
            if output.exists() and not self.joined and not output.is_dir():
                raise OutputError(f"{output} is a file; choose another --output")
            if self.folder.is_dir() and not record.exists() and _has_files(self.folder):
                raise OutputError(f"{self.folder} is not empty; choose a new folder with --output")
            self.folder.mkdir(parents=True, exist_ok=True)
            if not record.exists():
                write_file(record, json.dumps(made_of, indent=1) + "\n")
            if parse_json(record.read_bytes(), str(record), OutputError) != made_of:
                raise OutputError(
                    f"{self.folder} has answers of another bundle, of other settings or for other shards; remove it, "
                    "or choose another --output"
                )

    def path(self, shard: str) -> Path:
        """Of a shard's part."""
        return self.folder / (shard.removesuffix(".tar") + self.suffix)

    def missing(self, rank: int, world: int) -> Iterator[str]:
        """The shards of process `rank` of `world` that have no part yet."""
        yield from (shard for shard in self.shards[rank::world] if not self.path(shard).exists())

    @contextmanager
    def write(self, shard: str) -> Iterator[Path]:
        """A file to write, which becomes the shard's part when the block ends without an error."""
        part = self.path(shard)
        for left in self.folder.glob(f".{part.stem}-*{self.suffix}"):  # by a process that was killed
            left.unlink(missing_ok=True)
        unfinished = part.with_name(f".{part.stem}-{secrets.token_hex(4)}{self.suffix}")
        try:
            yield unfinished
            with writing("the answers", part):
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
                unfinished.replace(part)
                sync_folder(self.folder)
        finally:
            unfinished.unlink(missing_ok=True)

    def wait(self) -> None:
        """Until the other processes have written theirs; whoever started them ends this one should they not."""
        while any(not self.path(shard).exists() for shard in self.shards):
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def join(self) -> None:
        """All parts as the one file, in the order of the shards; then the parts go.

        Raises:
            OutputError: where it is there already, or cannot be written.
        """
        if self.output.exists():
            raise OutputError(f"{self.output} is there already; move it away or choose another name")
        with writing("the answers", self.output):
            _JOIN[self.suffix]([self.path(shard) for shard in self.shards], self.output)
            rmtree(self.folder)


def _has_files(folder: Path) -> bool:
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _join_lines(parts: Sequence[Path], output: Path) -> None:
    _join(parts, output, headers=0)


def _join_tables(parts: Sequence[Path], output: Path) -> None:
    _join(parts, output, headers=1)


def _join(parts: Sequence[Path], output: Path, headers: int) -> None:
    """The parts one after the other, of all but the first without their header, put in place as a whole."""
    whole = output.with_name(f".{output.name}-{secrets.token_hex(4)}")
    try:
        with whole.open("xb") as file:
            for place, part in enumerate(parts):
                with part.open("rb") as lines:
                    for _ in range(headers if place else 0):
                        lines.readline()
                    while piece := lines.read(2**20):
                        file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(output)
        sync_folder(output.parent)
    finally:
        whole.unlink(missing_ok=True)


def _join_arrays(parts: Sequence[Path], output: Path) -> None:
    columns: dict[str, list[np.ndarray]] = {}
    for part in parts:
        with np.load(part, allow_pickle=False) as arrays:
            for name in arrays.files:
                columns.setdefault(name, []).append(arrays[name])
    buffer = io.BytesIO()
    whole: dict[str, Any] = {name: np.concatenate(column) for name, column in columns.items()}
    np.savez(buffer, **whole)
    write_file(output, buffer.getvalue())


_JOIN: dict[str, Callable[[Sequence[Path], Path], None]] = {
    ".csv": _join_tables,
    ".jsonl": _join_lines,
    ".npz": _join_arrays,
}
