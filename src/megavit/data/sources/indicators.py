"""Read columns of 0 and 1, one for each class, as competitions and pandas.get_dummies write them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from megavit.config.names import abbreviate
from megavit.config.target import TargetKind
from megavit.data.sources.table_columns import EXPECTED, Header, UnknownColumnsError
from megavit.data.targets import NamedTarget
from megavit.errors import DataError

_YES, _NO = frozenset(("1", "1.0", "true")), frozenset(("0", "0.0", "false"))


@dataclass(frozen=True, slots=True)
class IndicatedTargets:
    """The targets that columns of 0 and 1 indicate: one class each, or any number of labels."""

    values: list[NamedTarget]
    kind: TargetKind
    notes: tuple[str, ...]


def read_indicators(header: Header, cells: Sequence[object]) -> tuple[str, ...]:
    """Return the sorted names of the classes that an image has, by its cells in `header.indicators`.

    Raises:
        DataError: if a cell is neither 0 nor 1.
    """
    found: list[str] = []
    for (name, index), cell in zip(header.indicators.items(), cells, strict=True):
        text = str(cell).strip().casefold()
        if text not in _YES | _NO:
            raise DataError(
                f"the column {header.names[index]!r} is {cell!r}, but it is one of the columns "
                f"{abbreviate(list(header.indicators), 5)}, of which each was read as a class, with 0 or 1: remove the "
                "columns that are no classes, or name the one with the class by --label-column"
            )
        if text in _YES:
            found.append(name)
    return tuple(sorted(found))


def check_indicators(source: str, header: Header, cells: Sequence[object]) -> None:
    """Raise an UnknownColumnsError if the first row shows that the columns are not of 0 and 1.

    Args:
        source: name of the table.
    """
    try:
        read_indicators(header, cells)
    except DataError:
        raise unknown_columns(source, header) from None


def unknown_columns(source: str, header: Header) -> UnknownColumnsError:
    """Return the error for a table with several columns that may be the labels."""
    return UnknownColumnsError(
        f"which of the columns of {source!r} are the images and the labels is not clear from their names, "
        f"{abbreviate(list(header.names), 20)}: name them with --path-column and --label-column; columns of 0 and 1, "
        f"one for each class, are read if the table has no others. {EXPECTED}"
    )


def settle_targets(found: Sequence[tuple[str, ...]], header: Header, where: Callable[[int], str]) -> IndicatedTargets:
    """Return one class for each image if every one has one, or any number of labels if some have several.

    Args:
        found: names of the classes of each image.
        where: function that names an image by its index in `found`, for errors.

    Raises:
        DataError: if some images have no class and none has several, which may mean either.
    """
    names = list(header.indicators)
    present = {name for classes in found for name in classes}
    absent = [name for name in names if name not in present]
    notes = [f"the columns {abbreviate(names, 5)} are read as one for each class, of 0 and 1"]
    if absent:
        notes.append(f"no image is of {abbreviate(absent, 5)}: the model will not know these classes")
    if any(len(classes) > 1 for classes in found):
        notes.insert(1, "some images have several, so an image may have any number of labels")
        return IndicatedTargets(list(found), "multilabel", tuple(notes))
    without = [index for index, classes in enumerate(found) if not classes]
    if without:
        raise DataError(
            f"{where(without[0])} is of none of the classes {abbreviate(names, 5)}, as {len(without):,} of "
            f"{len(found):,} images, and none is of several: remove them if they have no label, or add a column, such "
            "as other; if images may have any number of labels, write their names into one column called labels, "
            "such as cat|indoors"
        )
    return IndicatedTargets([classes[0] for classes in found], "classification", tuple(notes))
