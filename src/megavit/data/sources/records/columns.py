"""Read records, rows whose cells have types, as in data frames, Parquet and JSON lines."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from megavit.config.recipe import DataRecipe
from megavit.config.target import TargetKind
from megavit.data.sources.indicators import check_indicators, read_indicators, settle_targets, unknown_columns
from megavit.data.sources.records.examples import Example, Examples
from megavit.data.sources.table_cells import read_is_valid, read_labels, read_split
from megavit.data.sources.table_columns import Header, find_columns
from megavit.errors import DataError

_SEPARATORS = "|;"
_KINDS: dict[str, TargetKind | None] = {"label": "classification", "labels": None, "score": "regression"}


@dataclass(frozen=True, slots=True)
class Records:
    """A table of typed columns.

    Attributes:
        source: name of the table, for errors.
        names: names of the columns.
        read: function that yields the cells of each row in the columns with the given indices.
        class_names: names of the classes by number, for columns that have them.
        image_column, label_column: columns to use if the recipe names none.
    """

    source: str
    names: tuple[str, ...]
    read: Callable[[Sequence[int]], Iterable[Sequence[object]]]
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    image_column: str | None = None
    label_column: str | None = None


def find_record_columns(records: Records, recipe: DataRecipe) -> Header:
    """Return the columns of records by the names in the recipe, or else by their own, as in tables.

    Raises:
        DataError: if they cannot be found.
    """
    return find_columns(
        records.source,
        records.names,
        recipe.path_column or records.image_column,
        recipe.label_column or records.label_column,
    )


def image_cell(cell: object) -> object:
    """Return an image's cell, a number as text, since files are often named by numbers."""
    return str(cell) if isinstance(cell, int) else cell


def read_records(records: Records, recipe: DataRecipe) -> Examples:
    """Return the examples of records, whose columns are found by name as in tables.

    Args:
        recipe: settings, of which the names of columns are used.

    Raises:
        DataError: if the columns cannot be found, or, when the rows are read, a split is invalid.
    """
    columns = find_record_columns(records, recipe)
    if columns.indicators:
        return _read_indicated(records, columns)
    label = records.names[columns.index[columns.target]]
    class_names = records.class_names.get(label)
    # What a column of any name holds is told by its types.
    kind = None if columns.is_inferred or class_names is not None else _KINDS[columns.target]
    split_column = _split_column(columns)
    used = ["path", columns.target, *([split_column] if split_column else [])]

    def rows() -> Iterator[Example]:
        for number, cells in enumerate(records.read([columns.index[name] for name in used])):
            target = cells[1]
            if columns.target == "labels" and isinstance(target, str):
                target = read_labels(target, _SEPARATORS)
            yield image_cell(cells[0]), target, _read_split(split_column, cells[2], number) if split_column else None

    return Examples(rows(), class_names, kind, columns.notes, "row")


def _read_indicated(records: Records, columns: Header) -> Examples:
    """Return the examples of records that may have a column of 0 and 1 for each class, which are read first."""
    found: list[tuple[str, ...]] = []
    for number, cells in enumerate(records.read(tuple(columns.indicators.values()))):
        if number == 0:
            check_indicators(records.source, columns, cells)
        try:
            found.append(read_indicators(columns, cells))
        except DataError as error:
            raise DataError(f"{records.source!r}, row {number}: {error}") from error
    if not found:
        raise unknown_columns(records.source, columns)
    targets = settle_targets(found, columns, lambda index: f"{records.source!r}, row {index}: the image")
    split_column = _split_column(columns)
    used = [columns.index[name] for name in ("path", *([split_column] if split_column else []))]

    def rows() -> Iterator[Example]:
        for number, (cells, target) in enumerate(zip(records.read(used), targets.values, strict=True)):
            yield image_cell(cells[0]), target, _read_split(split_column, cells[1], number) if split_column else None

    return Examples(rows(), None, targets.kind, targets.notes, "row")


def _split_column(columns: Header) -> str | None:
    return next((name for name in ("split", "is_valid") if name in columns.index), None)


def _read_split(column: str, cell: object, number: int) -> str:
    try:
        return read_split(str(cell)) if column == "split" else read_is_valid(str(cell))
    except DataError as error:
        raise DataError(f"row {number}: {error}") from error
