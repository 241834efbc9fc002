"""Find a table's delimiter and its columns of path, target and split in its header."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megavit.config.names import abbreviate, canonical
from megavit.config.recipe import DataRecipe
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
    "label": ("label class", "class_name classname label_name category choice"),
    "labels": ("labels", "tags"),
    "score": ("score", ""),
    "split": ("split", "set data_set dataset subset partition"),
    "is_valid": ("is_valid", "is_val is_validation"),
}
_PIXEL = re.compile(r"(pixel|px|p)?[_ ]?\d+(x\d+)?", re.IGNORECASE)
# Columns of file names without suffix, in competitions; other tables have them for numbers of rows.
_IDS = "id image_id imageid img_id id_code uid uuid"

EXPECTED = (
    "Expected a header with the columns path, label and optionally split, then one line per image:\n"
    "  path,label,split\n"
    "  photos/1.jpg,cat,train\n"
    'Instead of label: labels, for any number of them ("cat|indoors"), or score, for a number'
)


class UnknownColumnsError(DataError):
    """A table whose columns of images and labels cannot be found by their names."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a table.

    Attributes:
        names: column names as written.
        index: index of each column in use, by our name for it.
        is_inferred: whether the target is the only column left, or was named by the user, so that its name does not
            say its kind.
        indicators: instead of a target, the indices of several columns left, which may be of 0 and 1, by the names of
            the classes.
    """

    names: tuple[str, ...]
    index: dict[str, int]
    is_inferred: bool = False
    indicators: dict[str, int] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Our name for the column of the target."""
        return "labels" if self.indicators else next(name for name in TARGETS if name in self.index)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on which columns are used, if their names do not say so."""
        if not self.is_inferred or self.indicators:
            return ()
        path, target = self.names[self.index["path"]], self.names[self.index[self.target]]
        return (f"the images are read from the column {path!r}, and their labels from {target!r}",)


def find_header(table: Path, first: str, recipe: DataRecipe, declared: str | None = None) -> tuple[str, Header]:
    """Return the delimiter, `declared` or found by trying, and the columns.

    Raises:
        DataError: if no delimiter gives a path and a target, or several columns match.
    """
    split_by: dict[str, list[str]] = {}
    for delimiter in DELIMITERS if declared is None else (declared,):
        try:
            split_by[delimiter] = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            continue
    for match in (_match, _infer):
        for delimiter, names in split_by.items():
            header = match(str(table), names, recipe.path_column, recipe.label_column)
            if header is not None:
                return delimiter, header
    names = max(split_by.values(), key=len, default=[])
    if len(names) < 2:
        raise UnknownColumnsError(f"{str(table)!r} begins with {first[:80]!r}. {EXPECTED}")
    raise _unknown_columns(str(table), names, recipe.path_column, recipe.label_column, f"begins with {first[:80]!r}")


def find_columns(
    source: str, names: Sequence[str], path_column: str | None = None, label_column: str | None = None
) -> Header:
    """Return the columns of a table with given names; arguments and errors are those of `find_header`."""
    header = _match(source, names, path_column, label_column) or _infer(source, names, path_column, label_column)
    if header is None:
        raise _unknown_columns(source, names, path_column, label_column, "is not such a table")
    return header


def _match(source: str, names: Sequence[str], path_column: str | None, label_column: str | None) -> Header | None:
    """Return the columns by their own names, or by those that the user gave."""
    found = {column: _find_columns(column, names) for column in _NAMES}
    is_inferred = False
    if path_column is not None:
        found["path"] = find_named(names, path_column)
    if label_column is not None:
        chosen = find_named(names, label_column)
        kinds = [column for column in TARGETS if set(chosen) & set(_find_columns(column, names))]
        is_inferred = not kinds
        found |= {column: [] for column in TARGETS} | {kinds[0] if kinds else "label": chosen}
    return _header(source, names, found, is_inferred)


def _infer(source: str, names: Sequence[str], path_column: str | None, label_column: str | None) -> Header | None:
    """Return the columns of names without suffix and of the label, if they are the only ones or have known names.

    Of several columns left, each may be a class.
    """
    found = {column: _find_columns(column, names) for column in _NAMES}
    is_inferred = label_column is not None
    indicators: dict[str, int] = {}
    if path_column is not None:
        found["path"] = find_named(names, path_column)
    elif not found["path"]:
        found["path"] = _indices_of(_normalized(names), _IDS.split())
    if label_column is not None:
        found |= {column: [] for column in TARGETS} | {"label": find_named(names, label_column)}
    elif not any(found[column] for column in TARGETS):
        used = {index for indices in found.values() for index in indices}
        others = [index for index in range(len(names)) if index not in used and names[index].strip()]
        if len(others) == 1:
            found["label"] = others
        elif len({canonical(names[index].strip()) for index in others}) == len(others):
            indicators = {canonical(names[index].strip()): index for index in others}
        is_inferred = True
    return _header(source, names, found, is_inferred, indicators)


def _header(
    source: str,
    names: Sequence[str],
    found: dict[str, list[int]],
    is_inferred: bool,
    indicators: dict[str, int] | None = None,
) -> Header | None:
    targets = [column for column in TARGETS if found[column]] or (["labels"] if indicators else [])
    if found["path"] and len(targets) > 1:
        raise DataError(
            f"{source!r} has the columns {' and '.join(targets)}: keep only one of label, labels and score, as the "
            "target, or name it with --label-column"
        )
    if not found["path"] or not targets:
        return None
    for column, indices in found.items():
        if len(indices) > 1:
            option = " or with --path-column" if column == "path" else ""
            raise DataError(
                f"{source!r} has more than one column for the {column}: {', '.join(names)[:200]!r}; rename the unused "
                f"ones, and call the one to use {column}{option}"
            )
    index = {column: indices[0] for column, indices in found.items() if indices}
    return Header(tuple(names), index, is_inferred, indicators or {})


def _unknown_columns(
    source: str, names: Sequence[str], path_column: str | None, label_column: str | None, found: str
) -> UnknownColumnsError:
    if sum(_PIXEL.fullmatch(name.strip()) is not None for name in names) > 1:
        return UnknownColumnsError(
            f"the columns of {source!r} are the pixels of images, not their paths: read it in Python, and pass "
            "megavit.train the pixels as an array (images, height, width) of uint8, as (images, labels)"
        )
    columns = abbreviate(list(names), 20)
    for option, column in (("--path-column", path_column), ("--label-column", label_column)):
        if column is not None and not find_named(names, column):
            return UnknownColumnsError(
                f"{source!r} has no column {column!r}, as {option} says; its columns are {columns}"
            )
    return UnknownColumnsError(
        f"{source!r} {found}, and which of its columns are the images and the labels is not clear from their names, "
        f"{columns}: name them with --path-column and --label-column. {EXPECTED}"
    )


def _find_columns(column: str, names: Sequence[str]) -> list[int]:
    normalized = _normalized(names)
    preferred, synonyms = _NAMES[column]
    return _indices_of(normalized, preferred.split()) or _indices_of(normalized, synonyms.split())


def find_named(names: Sequence[str], column: str) -> list[int]:
    """Return the indices of a column by name; an exact match is preferred to one that ignores case."""
    stripped = [name.strip() for name in names]
    return _indices_of(stripped, [column.strip()]) or _indices_of(
        [name.casefold() for name in stripped], [column.strip().casefold()]
    )


def _normalized(names: Iterable[str]) -> list[str]:
    return [name.strip().casefold().replace(" ", "_").replace("-", "_") for name in names]


def _indices_of(names: Iterable[str], wanted: Sequence[str]) -> list[int]:
    return [index for index, name in enumerate(names) if name in wanted]
