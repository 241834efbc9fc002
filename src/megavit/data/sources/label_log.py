"""Read the log of labels that `megavit label` appends to: a line for each decision on an image, the last one counts.

The columns are those of `columns`. Every cell is quoted, so that a line that was cut off by a crash is recognized, and
no cell has a line break.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from megavit.config.names import abbreviate
from megavit.config.target import TargetKind, join_labels
from megavit.data.dataset import Skipped
from megavit.data.file_names import IMAGE_SUFFIXES
from megavit.data.scan import Candidate, Listing
from megavit.data.sources.table_cells import read_class, read_labels
from megavit.data.sources.tree import FolderTree
from megavit.data.split.split_names import SPLITS
from megavit.errors import DataError
from megavit.runtime.csv_files import csv_text, unescape_row

LABEL_LOG = "labels.csv"
"""Name of the log in the folder of the images."""

Status = Literal["labeled", "skipped", "unsure", "excluded", "unlabeled"]
"""What was decided on an image; "excluded": it is not one of this task; "unlabeled": a decision was undone."""

REASONS: dict[Status, str] = {
    "skipped": "skipped when labeling",
    "unsure": "marked as not sure when labeling",
    "excluded": "marked as not an image of this task when labeling",
    "unlabeled": "its label was undone",
}
_OURS = frozenset(("path", "status", "stroke"))
_TARGETS: dict[str, TargetKind] = {"label": "classification", "labels": "multilabel"}


@dataclass(frozen=True, slots=True)
class Decision:
    """A line of the log.

    Attributes:
        path: name of the image relative to the log's folder, with "/".
        labels: its class, or any number of labels; empty unless the status is "labeled".
        status: what was decided.
        split: "train", "val" or "test", if the data had one before it was labeled; else "".
        by: name of the person who decided.
        at: time in UTC, in ISO 8601.
        suggested: class that a model suggested; "" if none was.
        probability: probability of the suggested class, such as "0.93"; "" if none was suggested.
        stroke: identifier of the stroke, which several images share if they were decided at once.
    """

    path: str
    labels: tuple[str, ...]
    status: Status
    split: str
    by: str
    at: str
    suggested: str
    probability: str
    stroke: str


@dataclass(frozen=True, slots=True)
class LabelLog:
    """A log as read: its decisions in order, and the number of bytes they take, without a torn last line."""

    target: TargetKind
    decisions: tuple[Decision, ...]
    size: int
    is_torn: bool


def columns(target: TargetKind) -> tuple[str, ...]:
    """Return the columns of a log, of which the second is "label" or "labels"."""
    column = "label" if target == "classification" else "labels"
    return ("path", column, "status", "split", "by", "at", "suggested", "probability", "stroke")


def format_header(target: TargetKind) -> bytes:
    """Return the first line of a log."""
    return csv_text(columns(target), [])


def format_decisions(decisions: Iterable[Decision], target: TargetKind) -> bytes:
    """Return the lines of decisions, to be appended to a log at once."""
    rows = [
        (
            decision.path,
            "".join(decision.labels) if target == "classification" else join_labels(decision.labels),
            *(
                decision.status,
                decision.split,
                decision.by,
                decision.at,
                decision.suggested,
                decision.probability,
                decision.stroke,
            ),
        )
        for decision in decisions
    ]
    return csv_text((), rows).partition(b"\n")[2]


def is_label_log(path: Path) -> bool:
    """Return whether a file begins like a log of labels, whatever its delimiter."""
    try:
        with path.open("rb") as file:
            first = file.readline(1_000).decode("utf-8-sig", "replace")
    except OSError:
        return False
    return set(first.replace(";", ",").replace("\t", ",").replace('"', "").strip().split(",")) >= _OURS


def parse_label_log(data: bytes, source: str) -> LabelLog:
    """Return the decisions of a log; a last line that was cut off is left out.

    Raises:
        DataError: if the header or another line is damaged; the message names the line.
    """
    first, has_end, _ = data.partition(b"\n")
    plain = first.removeprefix(b"\xef\xbb\xbf").replace(b'"', b"").strip()
    target = next((kind for kind in _TARGETS.values() if plain == ",".join(columns(kind)).encode()), None)
    if target is None or not has_end:
        raise DataError(
            f"{source!r} is not as megavit label wrote it: its first line should be "
            f"{','.join(columns('classification'))}; undo what changed it, or save it with commas as CSV UTF-8"
        )
    decisions, is_torn, start = [], False, len(first) + 1
    while start < len(data):
        end = data.find(b"\n", start)
        line = data[start:] if end < 0 else data[start:end]
        where = f"{source!r}, line {len(decisions) + 2}"
        try:
            decisions.append(_parse(_cells(line, where), target, where))
        except DataError:
            if end >= 0:
                raise
            is_torn = True
            break
        start = len(data) if end < 0 else end + 1
    return LabelLog(target, tuple(decisions), start, is_torn)


def list_label_log(path: Path) -> Listing:
    """List the labeled images of a log, each with its last label; the others are skipped with the reason.

    Raises:
        DataError: if the log is damaged, or no image is labeled.
    """
    try:
        log = parse_label_log(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"the labels {str(path)!r} cannot be read: {error.strerror}") from error
    last = {decision.path: decision for decision in log.decisions}
    labeled = [decision for _, decision in sorted(last.items()) if decision.status == "labeled"]
    if not labeled:
        raise DataError(f"no image is labeled in {str(path)!r}: label some with megavit label {path.parent}")
    is_single = log.target == "classification"
    classes = sorted({label for decision in labeled for label in decision.labels})
    skipped = [Skipped(name, REASONS[one.status]) for name, one in sorted(last.items()) if one.status != "labeled"]
    notes = [f"the labels are read from {path.name}, as megavit label wrote it, and not from the names of folders"]
    missing = [name for name in list_image_files(path.parent) if name not in last]
    if missing:
        notes.append(
            f"{len(missing):,} images of the folder have no label in {path.name} and are left out, such as "
            f"{abbreviate(missing, 2)}"
        )
    if log.is_torn:
        notes.append(f"the last line of {path.name} is incomplete and left out")
    candidates = [Candidate(one.path, one.labels[0] if is_single else one.labels, one.split or None) for one in labeled]
    return Listing(path.parent, tuple(classes), tuple(candidates), tuple(skipped), log.target, tuple(notes))


def list_image_files(root: Path) -> Iterator[str]:
    """Yield the names of the files in and below a folder that have an image's suffix, in order of folders and names."""
    for name in FolderTree(root).walk("", set()):
        if PurePosixPath(name).suffix[1:].lower() in IMAGE_SUFFIXES:
            yield name


def _cells(line: bytes, where: str) -> list[str]:
    try:
        (cells,) = csv.reader([line.removesuffix(b"\r").decode()], strict=True)
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{where}: the line is damaged: {error}") from error
    return unescape_row(cells)


def _parse(cells: list[str], target: TargetKind, where: str) -> Decision:
    if len(cells) != len(columns(target)):
        raise DataError(f"{where}: expected {len(columns(target))} columns, got {len(cells)}")
    path, label, status, *rest = cells
    known = next((one for one in get_args(Status) if one == status), None)
    if known is None or not path or not rest[-1]:
        raise DataError(f"{where}: expected a path, a status of {', '.join(get_args(Status))}, and a stroke")
    labels: tuple[str, ...] = ()
    if known == "labeled":
        try:
            labels = (read_class(label),) if target == "classification" else read_labels(label, "|")
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    split, by, at, suggested, probability, stroke = rest
    if split not in ("", *SPLITS):
        raise DataError(f"{where}: expected a split of {', '.join(SPLITS)}, or none; got {split!r}")
    return Decision(path, labels, known, split, by, at, suggested, probability, stroke)
