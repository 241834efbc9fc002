"""Collect the values of a table's column by image, such as those that define subgroups."""

import math
from collections.abc import Sequence

from megavit.data.sources.table_columns import Header, find_named
from megavit.errors import DataError


class ColumnValues:
    """The values of a column by image name.

    Args:
        source: name of the table, for errors.
        unit: name of a row, such as "line".
    """

    def __init__(self, source: str, column: str, unit: str) -> None:
        self.by_name: dict[str, str] = {}
        self._source, self._column, self._unit = source, column, unit

    def add(self, name: str, value: str, number: int) -> None:
        """Add the value in a row, or raise a DataError if the image has another one already."""
        if self.by_name.setdefault(name, value) != value:
            raise DataError(
                f"{self._source!r}, {self._unit} {number}: {self._column} of {name!r} is {value!r}, but an earlier "
                f"{self._unit} has {self.by_name[name]!r}: keep one of the {self._unit}s"
            )


def find_value_column(source: str, header: Header, column: str) -> int:
    """Return the index of a column by its name, or raise a DataError if there is none or more than one."""
    found = find_named(header.names, column)
    if len(found) == 1:
        return found[0]
    others = [name.strip() for index, name in enumerate(header.names) if index not in header.index.values()]
    columns = f"its other columns are {', '.join(map(repr, others))}" if others else "it has only path and target"
    raise DataError(f"{source!r} has {'more than one column' if found else 'no column'} {column!r}; {columns}")


def cell_text(value: object, class_names: Sequence[str] | None = None) -> str:
    """Return a cell with a type as text, "" if it is missing; a number is that of a class if there are class names."""
    if (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in ("NAType", "NaTType")
    ):
        return ""
    if class_names is not None and isinstance(value, int) and 0 <= value < len(class_names):
        return str(class_names[value])
    return str(value).strip()
