"""Read tables of image paths, targets and splits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from megavit.config.names import abbreviate
from megavit.config.recipe import DataRecipe
from megavit.data.scan import Listing
from megavit.data.sources.column_values import ColumnValues, find_value_column
from megavit.data.sources.image_root import SAMPLE, find_image_root
from megavit.data.sources.indicators import check_indicators, read_indicators, settle_targets, unknown_columns
from megavit.data.sources.open_table import OpenTable, open_table
from megavit.data.sources.path_resolver import PathResolver
from megavit.data.sources.rows import Row, RowCollector
from megavit.data.sources.table_cells import (
    has_separators,
    may_have_several,
    read_class,
    read_is_valid,
    read_labels,
    read_score,
    read_split,
)
from megavit.data.sources.table_columns import EXPECTED, TARGETS, Header
from megavit.data.split.split_names import parse_split
from megavit.errors import DataError
from megavit.runtime.csv_files import TableError

DEFAULTS = DataRecipe()
MIN_DISTINCT = 20  # number of distinct labels above which nearly every image has its own


def list_table(table: Path, recipe: DataRecipe = DEFAULTS) -> Listing:
    """List the images in a table, without opening any or checking that they exist.

    The header has the columns path, one of label, labels and score, and optionally split or is_valid, or synonyms
    (`megavit.data.sources.table_columns`), or a column of 0 and 1 for each class. Columns are separated by commas,
    semicolons or tabs; labels by "|", by ";" if columns are not, or as a Python list. The text is UTF-8, or UTF-16 with
    a byte order mark. Paths are relative to the table's folder and found by `PathResolver`.

    Args:
        recipe: settings, of which the names of columns and the images' folder are used.

    Raises:
        DataError: if the table is invalid or contradicts itself on an image; the message names the line.
    """
    with open_table(table, recipe) as opened:
        header, rows = opened.header, _parse_rows(opened)
        first = list(islice(rows, SAMPLE))
        names = _resolver(table, [row.path for row in first], recipe)
        collector = RowCollector(str(table), names, header.target)
        collector.add_all(chain(first, rows))
    candidates = collector.candidates
    if not candidates:
        raise (
            unknown_columns(str(table), header)
            if header.indicators
            else DataError(f"{str(table)!r} lists no images. {EXPECTED}")
        )
    if header.indicators:
        return _indicated_listing(table, header, collector, names.notes())
    classes = tuple(sorted({name for candidate in candidates for name in candidate.names}))
    notes = [*header.notes, *names.notes()]
    if header.target == "label" and header.is_inferred:
        _check_classes(table, header, classes, len(candidates))
    if header.target == "label":
        notes += _several_labels_notes(classes)
    if header.target == "labels" and all(len(candidate.names) == 1 for candidate in candidates):
        notes.append("every image has exactly one label: if it cannot have more, call the column label")
    return Listing(
        table.parent, classes, tuple(candidates), tuple(collector.skipped), TARGETS[header.target], tuple(notes)
    )


def _indicated_listing(table: Path, header: Header, collector: RowCollector, notes: Sequence[str]) -> Listing:
    candidates = collector.candidates
    targets = settle_targets(
        [found.names for found in candidates],
        header,
        lambda index: f"{str(table)!r}, line {collector.first[candidates[index].name].number}: the image",
    )
    candidates = [replace(found, target=target) for found, target in zip(candidates, targets.values, strict=True)]
    classes = tuple(sorted({name for found in candidates for name in found.names}))
    notes = (*targets.notes, *notes)
    return Listing(table.parent, classes, tuple(candidates), tuple(collector.skipped), targets.kind, notes)


def read_column(table: Path, column: str, recipe: DataRecipe = DEFAULTS) -> dict[str, str]:
    """Return a column's values by image name; raise a DataError if it is missing or an image has two values."""
    values = ColumnValues(str(table), column, "line")
    with open_table(table, recipe) as opened:
        path, index = opened.header.index["path"], find_value_column(str(table), opened.header, column)
        first = list(islice(opened.rows, SAMPLE))
        resolver = _resolver(table, [row[path] for _, row in first], recipe)
        for number, row in chain(first, opened.rows):
            values.add(resolver.find(row[path]), row[index].strip(), number)
    return values.by_name


def _resolver(table: Path, paths: Sequence[str], recipe: DataRecipe) -> PathResolver:
    return PathResolver(table.parent, find_image_root(table.parent, paths, recipe.image_root, str(table)))


def _check_classes(table: Path, header: Header, classes: Sequence[str], images: int) -> None:
    """Raise a DataError if the only column left, or one named by the user, seems not to hold classes."""
    column = header.names[header.index["label"]]
    if len(classes) > max(MIN_DISTINCT, images // 2):
        problem = f"{len(classes):,} different values for {images:,} images"
    elif all(map(_is_number, classes)) and not all(name.lstrip("+-").isdigit() for name in classes):
        problem = f"numbers with decimals, such as {classes[0]}"
    else:
        return
    raise DataError(
        f"the column {column!r} of {str(table)!r} has {problem}, so it seems to hold no classes: call it score to "
        "predict a number, or label if these are classes, or name another column with --label-column"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse_rows(table: OpenTable) -> Iterator[Row]:
    index = table.header.index
    ambiguous: tuple[int, str] | None = None
    separated = False
    splits: dict[int, set[str]] = {}  # splits in each column that may be the splits under another name
    if {"split", "is_valid"}.isdisjoint(index):
        splits = {position: set() for position in range(len(table.header.names)) if position not in index.values()}
    indicators, is_first = tuple(table.header.indicators.values()), True
    for number, row in table.rows:
        values = {column: row[position] for column, position in index.items()}
        cells = [row[position] for position in indicators]
        if is_first:
            check_indicators(str(table.path), table.header, cells)
            is_first = False
        try:
            yield _parse_row(number, values, table.separators, read_indicators(table.header, cells))
        except DataError as error:
            raise TableError(f"line {number}: {error}") from error
        if "labels" in values:
            separated = separated or has_separators(values["labels"], table.separators)
            if ambiguous is None and may_have_several(values["labels"]):
                ambiguous = number, values["labels"].strip()
        splits = {
            position: found | {split}
            for position, found in splits.items()
            if (split := parse_split(row[position])) is not None
        }
    if ambiguous and not separated:
        number, labels = ambiguous
        raise TableError(
            f'line {number}: the labels {labels!r} may be one or several: separate several with "|", such as '
            f"{'|'.join(labels.replace(',', ' ').split()[:2])}; if an image has just one, call the column label"
        )
    split_column = next((position for position, found in splits.items() if "train" in found and len(found) > 1), None)
    if split_column is not None:
        column = table.header.names[split_column]
        raise DataError(
            f"{str(table.path)!r} has no column split, but {column!r} contains only train, val or test: rename it to "
            "split, or remove it if it means something else"
        )


def _parse_row(number: int, values: Mapping[str, str], separators: str, indicated: tuple[str, ...]) -> Row:
    path = values["path"]
    if not path.strip():
        raise DataError("the path is empty")
    target: str | tuple[str, ...] | float
    if "labels" in values:
        target = read_labels(values["labels"], separators)
    elif "score" in values:
        target = read_score(values["score"])
    elif "label" in values:
        target = read_class(values["label"])
    else:
        target = indicated
    split = None
    if "split" in values:
        split = read_split(values["split"])
    elif "is_valid" in values:
        split = read_is_valid(values["is_valid"])
    return Row(number, path, target, split)


def _several_labels_notes(classes: tuple[str, ...]) -> list[str]:
    """Return a note on class names that seem to be several labels, since their parts are classes too."""
    known = set(classes)
    found = [
        name
        for name in classes
        if len(parts := [part.strip() for part in name.replace(";", ",").split(",")]) > 1 and set(parts) <= known
    ]
    if not found:
        return []
    return [
        f"class names that seem to be several labels: {abbreviate(found, 3)}; if an image may have several, call the "
        'column labels and separate them with "|"'
    ]
