"""Keep the labels of a folder in one log, to which every stroke is appended, so that a crash loses nothing.

Any number of windows, threads and processes may write to one folder: a stroke says which decision on each image it was
made upon, and is refused if there is a newer one. Without file locks, as on Windows, only one process may write.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from megavit.config.names import abbreviate
from megavit.config.target import TargetKind
from megavit.data.sources.label_log import (
    LABEL_LOG,
    Decision,
    Status,
    format_decisions,
    format_header,
    parse_label_log,
)
from megavit.errors import DataError, MegavitError
from megavit.labeling.history import UNDOES, drop_undone
from megavit.runtime.file_locks import lock_opened
from megavit.runtime.storage import sync_file, sync_folder, writing

_TAIL_BYTES = 4096
"""Number of bytes before our place in the log that are compared, to notice that another program has changed it."""
_OPEN = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)


class StaleError(MegavitError):
    """A stroke on images that were labeled in the meantime."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a stroke says of one image.

    Attributes:
        path: name of the image.
        status, labels: what was decided.
        seen: stroke of the decision that it replaces; "" if there was none.
        suggested, probability: as in `Decision`.
        split: as in `Decision`; "" for that of the decision before.
    """

    path: str
    status: Status
    labels: tuple[str, ...] = ()
    seen: str = ""
    suggested: str = ""
    probability: str = ""
    split: str = ""


class LabelStore:
    """The labels of the images in a folder.

    Attributes:
        decisions: all decisions in the order of the log.
        generation: number that grows when another program has changed earlier lines, and `decisions` was read anew.
    """

    def __init__(self, folder: Path, target: TargetKind = "classification") -> None:
        """Read the log of a folder, if there is one; raise a DataError if it is damaged or of another target."""
        self.path, self.target = folder / LABEL_LOG, target
        self.decisions: list[Decision] = []
        self.generation = 0
        self._mutex = threading.RLock()
        self._forget()
        self.refresh()

    def last(self, path: str) -> Decision | None:
        """Return the decision on an image that counts, or None."""
        history = self._by_path.get(path)
        return self.decisions[history[-1]] if history else None

    def refresh(self) -> None:
        """Read what other processes have appended."""
        with self._mutex:
            try:
                handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                if self.decisions:
                    self._forget()
                return
            try:
                self._read(handle)
            finally:
                os.close(handle)

    def add(self, stroke: str, marks: Sequence[Mark], by: str) -> None:
        """Append a stroke, and return when it is on the disk; what is there of it already is not written again.

        Raises:
            DataError: if another program has damaged the log.
            OutputError: if it cannot be written; it is then as it was.
            StaleError: if one of the images has a newer decision than the one that was seen.
        """
        with self._mutex, self._open() as handle:
            # A write of several pages may have been cut between two of its lines.
            present = {self.decisions[index].path for index in self._by_stroke.get(stroke, ())}
            marks = [mark for mark in marks if mark.path not in present]
            if not marks:
                return
            stale = [mark.path for mark in marks if self._stroke_of(mark.path) != mark.seen]
            if stale:
                raise StaleError(f"labeled in the meantime: {abbreviate(stale, 3)}")
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            new = [self._decide(mark, stroke, by, at) for mark in marks]
            self._append(handle, format_decisions(new, self.target))
            self._take(new)

    def undo(self, stroke: str, undone: str, by: str) -> tuple[str, ...]:
        """Append, as a stroke, what was decided before another one on each of its images; return their names.

        The stroke of the new lines names both, so that what is undone is known from the log.

        Raises:
            DataError, OutputError: as for `add`.
            StaleError: if one of the images has a newer decision than the one to be undone.
        """
        stroke = f"{stroke}{UNDOES}{undone}"
        with self._mutex:
            self.refresh()
            present = [self.decisions[index].path for index in self._by_stroke.get(stroke, ())]
            paths = [self.decisions[index].path for index in self._by_stroke.get(undone, ())]
            marks = [self._before(path, undone) for path in paths if path not in present]
            if marks:
                self.add(stroke, marks, by)
            return (*present, *(mark.path for mark in marks))

    def _before(self, path: str, undone: str) -> Mark:
        """Return what was decided on an image before its last stroke, which is to be undone."""
        *before, last = [None, *drop_undone(self.decisions[index] for index in self._by_path[path])]
        if last is None or last.stroke != undone:
            raise StaleError(f"labeled in the meantime: {path}")
        seen = self._stroke_of(path)
        if (then := before[-1]) is None:
            return Mark(path, "unlabeled", seen=seen)
        return Mark(path, then.status, then.labels, seen, then.suggested, then.probability)

    def _decide(self, mark: Mark, stroke: str, by: str, at: str) -> Decision:
        last = self.last(mark.path)
        split = mark.split or (last.split if last else "")
        suggested, probability = mark.suggested, mark.probability
        return Decision(mark.path, mark.labels, mark.status, split, by, at, suggested, probability, stroke)

    def _stroke_of(self, path: str) -> str:
        last = self.last(path)
        return last.stroke if last else ""

    def _forget(self) -> None:
        self.decisions.clear()
        self.generation += 1
        self._by_path: dict[str, list[int]] = {}
        self._by_stroke: dict[str, list[int]] = {}
        self._size, self._tail, self._file = 0, b"", (0, 0)

    def _take(self, new: Sequence[Decision]) -> None:
        for decision in new:
            self._by_path.setdefault(decision.path, []).append(len(self.decisions))
            self._by_stroke.setdefault(decision.stroke, []).append(len(self.decisions))
            self.decisions.append(decision)

    def _read(self, handle: int) -> None:
        """Read the new lines of an open log, or all of them if it is not the one that was read before."""
        status = os.fstat(handle)
        if (status.st_dev, status.st_ino) != self._file or not self._is_unchanged(handle, status.st_size):
            self._forget()
            self._file = status.st_dev, status.st_ino
        data = _read_at(handle, self._size, status.st_size - self._size)
        header = format_header(self.target)
        if not data or (not self._size and header.startswith(data) and data != header):
            return  # nothing new, or an end within the header
        log = parse_label_log(data if not self._size else header + data, str(self.path))
        if log.target != self.target:
            options = "without" if log.target == "classification" else "with"
            raise DataError(f"{self.path} has labels of another kind: start megavit label {options} --multilabel")
        size = log.size if not self._size else log.size - len(header)
        self._advance(data[:size])
        self._take(log.decisions)

    def _is_unchanged(self, handle: int, size: int) -> bool:
        start = self._size - len(self._tail)
        return size >= self._size and _read_at(handle, start, len(self._tail)) == self._tail

    def _advance(self, data: bytes) -> None:
        self._size += len(data)
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Yield the log, locked and read to its end; it is created if need be."""
        with writing("the labels", self.path):
            while True:
                handle = os.open(self.path, _OPEN | os.O_CREAT, 0o666)
                lock_opened(handle)
                try:
                    is_current = os.path.samestat(os.fstat(handle), self.path.stat())
                except FileNotFoundError:
                    is_current = False
                if is_current:
                    break
                os.close(handle)  # replaced before it was locked
            try:
                self._read(handle)
                yield handle
            finally:
                os.close(handle)

    def _append(self, handle: int, lines: bytes) -> None:
        """Write lines behind those that are whole, and wait for the disk."""
        before = self._size
        is_new = before == 0
        start = format_header(self.target) if is_new else b"" if self._tail.endswith(b"\n") else b"\n"
        data = start + lines
        os.ftruncate(handle, before)  # of what a crash has left of a line
        try:
            written = os.write(handle, data)
            while written < len(data):
                written += os.write(handle, data[written:])
            sync_file(self.path)
            if is_new:
                sync_folder(self.path.parent)
        except OSError:
            os.ftruncate(handle, before)
            raise
        self._advance(data)


def _read_at(handle: int, start: int, count: int) -> bytes:
    os.lseek(handle, start, os.SEEK_SET)
    parts: list[bytes] = []
    while count > 0 and (part := os.read(handle, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
