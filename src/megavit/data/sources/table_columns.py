"""Find a table's delimiter and its columns of path, target and split in its header."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from megavit.config.target import TargetKind
from megavit.data.dataset import TARGET_COLUMNS
from megavit.errors import DataError

DELIMITERS = (",", ";", "\t")
TARGETS: dict[str, TargetKind] = {column: target for target, column in TARGET_COLUMNS.items()}

# For each column, its own names, and the synonyms accepted if there is none of these.
_NAMES: dict[str, tuple[str, str]] = {
    "path": (
        "path image file filename",
        "image_path imagepath img_path imgpath file_path filepath file_name fname img image_file image_filename "
        "image_name img_name img_file paths images files filenames filepaths file_paths image_paths photo picture",
    ),
    "label": ("label class", "class_name classname label_name category"),
    "labels": ("labels", "tags"),
    "score": ("score", ""),
    "split": ("split", "set data_set dataset subset partition"),
    "is_valid": ("is_valid", "is_val is_validation"),
}

EXPECTED = (
    "Expected a header with the columns path, label and optionally split, then one line per image:\n"
    "  path,label,split\n"
    "  photos/1.jpg,cat,train\n"
    'Instead of label: labels, for any number of them ("cat|indoors"), or score, for a number'
)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a table.

    Attributes:
        names: column names as written.
        index: index of each column in use, by our name for it.
    """

    names: tuple[str, ...]
    index: dict[str, int]

    @property
    def target(self) -> str:
        return next(name for name in TARGETS if name in self.index)


def find_header(table: Path, first: str, declared: str | None = None) -> tuple[str, Header]:
    """Return the delimiter, `declared` or found by trying, and the columns.

    Raises:
        DataError: if no delimiter gives a path and a target, or several columns match.
    """
    for delimiter in DELIMITERS if declared is None else (declared,):
        try:
            names = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            continue
        found = {column: _find_columns(column, names) for column in _NAMES}
        targets = [column for column in TARGETS if found[column]]
        if found["path"] and len(targets) > 1:
            raise DataError(
                f"{str(table)!r} has the columns {' and '.join(targets)}: keep only one of label, labels and "
                "score, as the target"
            )
        if not found["path"] or not targets:
            continue
        for column, indices in found.items():
            if len(indices) > 1:
                raise DataError(
                    f"{str(table)!r} has more than one column for the {column}: {first[:200]!r}; rename the unused "
                    f"ones, and call the one to use {column}"
                )
        return delimiter, Header(tuple(names), {column: indices[0] for column, indices in found.items() if indices})
    raise DataError(f"{str(table)!r} begins with {first[:80]!r}. {EXPECTED}")


def _find_columns(column: str, names: Sequence[str]) -> list[int]:
    normalized = [name.strip().casefold().replace(" ", "_").replace("-", "_") for name in names]
    preferred, synonyms = _NAMES[column]
    return _indices_of(normalized, preferred.split()) or _indices_of(normalized, synonyms.split())


def _indices_of(names: Iterable[str], wanted: Sequence[str]) -> list[int]:
    return [index for index, name in enumerate(names) if name in wanted]
