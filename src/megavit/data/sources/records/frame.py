"""Read data frames of pandas and polars, without importing either."""

from collections.abc import Iterable, Sequence
from typing import Any

from megavit.data.sources.records.columns import Records


def is_frame(data: object) -> bool:
    """Return whether an object is a data frame of pandas or polars."""
    kind = type(data)
    return kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] in ("pandas", "polars")


def open_frame(frame: Any) -> Records:
    """Return the records of a data frame."""
    is_pandas = type(frame).__module__.startswith("pandas")

    def columns(indices: Sequence[int]) -> Iterable[Sequence[object]]:
        if is_pandas:
            return zip(*(frame.iloc[:, index].tolist() for index in indices), strict=True)
        return zip(*(frame.to_series(index).to_list() for index in indices), strict=True)

    return Records("the data frame", tuple(map(str, frame.columns)), columns)
