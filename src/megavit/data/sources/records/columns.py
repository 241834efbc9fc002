"""Read records, rows whose cells have types, as in data frames, Parquet and JSON lines."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from megavit.config.recipe import DataRecipe
from megavit.config.target import TargetKind
from megavit.data.sources.records.examples import Example, Examples
from megavit.data.sources.table_cells import read_is_valid, read_labels, read_split
from megavit.data.sources.table_columns import find_columns
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
    """

    source: str
    names: tuple[str, ...]
    read: Callable[[Sequence[int]], Iterable[Sequence[object]]]
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_records(
    records: Records, recipe: DataRecipe, image_column: str | None = None, label_column: str | None = None
) -> Examples:
    """Return the examples of records, whose columns are found by name as in tables.

    Args:
        recipe: settings, of which the names of columns are used.
        image_column, label_column: columns to use if the recipe names none.

    Raises:
        DataError: if the columns cannot be found, or, when the rows are read, a split is invalid.
    """
    columns = find_columns(
        records.source,
        records.names,
        recipe.path_column or image_column,
        recipe.label_column or label_column,
    )
    label = records.names[columns.index[columns.target]]
    class_names = records.class_names.get(label)
    # What a column of any name holds is told by its types.
    kind = None if columns.is_inferred or class_names is not None else _KINDS[columns.target]
    split_column = next((name for name in ("split", "is_valid") if name in columns.index), None)
    used = ["path", columns.target, *([split_column] if split_column else [])]

    def rows() -> Iterator[Example]:
        for number, cells in enumerate(records.read([columns.index[name] for name in used])):
            target = cells[1]
            if columns.target == "labels" and isinstance(target, str):
                target = read_labels(target, _SEPARATORS)
            # Files are often named by a number.
            image = str(cells[0]) if isinstance(cells[0], int) else cells[0]
            yield image, target, _read_split(split_column, cells[2], number) if split_column else None

    return Examples(rows(), class_names, kind, columns.notes, "row")


def _read_split(column: str, cell: object, number: int) -> str:
    try:
        return read_split(str(cell)) if column == "split" else read_is_valid(str(cell))
    except DataError as error:
        raise DataError(f"row {number}: {error}") from error
