"""Parse the cells of a table: classes, labels, scores and splits."""

import ast
import math
import re

from megavit.config.names import canonical, is_missing
from megavit.config.target import LABEL_SEPARATOR, split_labels
from megavit.data.split.split_names import SPLITS, parse_split
from megavit.errors import DataError

_LIST = re.compile(r"[\[({].*[\])}]", re.DOTALL)
_YES, _NO = frozenset(("true", "1", "yes", "t", "y", "1.0")), frozenset(("false", "0", "no", "f", "n", "0.0"))


def read_class(cell: str) -> str:
    """Return the name of a class, or raise a DataError if it is missing or seems to be several."""
    name = cell.strip()
    if not name:
        raise DataError("the label is empty")
    _check_not_missing("label", name)
    if name.startswith('{"choices"'):
        raise DataError(f"the label {name!r} is several choices of Label Studio: export them as JSON instead of CSV")
    if LABEL_SEPARATOR in name or (_LIST.fullmatch(name) and "," in name):
        raise DataError(
            f"the label {name!r} seems to be several: if an image may have several, call the column labels; if it is "
            f"one, write it without {LABEL_SEPARATOR} and brackets"
        )
    return canonical(name)


def read_labels(cell: str, separators: str) -> tuple[str, ...]:
    """Return the sorted labels of a cell with separators or a Python or JSON list; raise a DataError if invalid."""
    text = cell.strip()
    _check_not_missing("cell of labels", text)
    labels = _parse_list(text) if _LIST.fullmatch(text) else split_labels(text, separators)
    for label in labels:
        _check_not_missing("label", label)
    return tuple(sorted({canonical(label) for label in labels}))


def has_separators(cell: str, separators: str) -> bool:
    """Return whether a cell has label separators or is a list."""
    return any(separator in cell for separator in separators) or _LIST.fullmatch(cell.strip()) is not None


def may_have_several(cell: str) -> bool:
    """Return whether a cell may have several labels, separated by commas or spaces."""
    return re.search(r"[,\s]", cell.strip()) is not None


def read_score(cell: str) -> float:
    """Return a finite number, or raise a DataError."""
    try:
        score = float(cell.replace("_", "?"))  # Python would accept 1_000
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"score must be a finite number such as 3.5, got {cell!r}")
    return score


def read_split(cell: str) -> str:
    """Return "train", "val" or "test", or raise a DataError if the cell names no split."""
    split = parse_split(cell)
    if split is None:
        raise DataError(f"split must be one of {', '.join(SPLITS)}; got {cell!r}")
    return split


def read_is_valid(cell: str) -> str:
    """Return "val" or "train" for true or false, as in fastai's column is_valid, or raise a DataError."""
    text = cell.strip().casefold()
    if text not in _YES | _NO:
        raise DataError(f"is_valid must be True or False; got {cell!r}")
    return "val" if text in _YES else "train"


def _check_not_missing(what: str, name: str) -> None:
    if is_missing(name):
        raise DataError(
            f"the {what} is {name!r}, which usually means a missing value: remove the line, or if it is a name, spell "
            f"it differently, such as {name.strip('<>#/').lower()}_"
        )


def _parse_list(text: str) -> list[str]:
    hint = f'separate labels by "{LABEL_SEPARATOR}", such as cat{LABEL_SEPARATOR}indoors'
    try:
        # Python would join 'a' 'b', NumPy's form of two labels, into one string.
        found = None if re.search(r"""['"]\s+['"]""", text) else ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if found == {}:
        return []
    labels = [found] if isinstance(found, str) else found
    if not isinstance(labels, list | tuple | set) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"the labels {text[:80]!r} are not a valid list of strings; {hint}")
    return [label.strip() for label in labels if isinstance(label, str) and label.strip()]
