"""Interpret targets that are given as Python values: names or numbers of classes, lists of labels, or scores."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from megavit.config.names import abbreviate, canonical, is_missing
from megavit.config.target import TargetKind
from megavit.data.targets import NamedTarget, names_in
from megavit.errors import DataError

_MISSING_TYPES = frozenset(("NoneType", "NAType", "NaTType"))
_MAX_CLASS_LIKE = 20  # number of distinct whole scores up to which they may be meant as classes

_EXPECTED = (
    "strings or integers name classes, lists of them any number of labels for each image, and floating-point numbers "
    "are scores to predict"
)


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of images, in their order, with the names of the classes or labels, and remarks for their owner."""

    values: list[NamedTarget]
    kind: TargetKind
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_targets(
    values: Sequence[object],
    class_names: Sequence[object] | None = None,
    kind: TargetKind | None = None,
    where: Callable[[int], str] = "image {}".format,
) -> Targets:
    """Return the targets of images from Python, NumPy or torch values.

    Classes are in the order of `class_names`, of their numbers, or of the alphabet.

    Args:
        class_names: names of the classes by number, as in a data set's `classes`; those that do not occur are left out.
        kind: kind of target; None to tell by the values.
        where: function that names what the value at an index belongs to, in error messages.

    Raises:
        DataError: if a value is missing, or they are of several kinds, naming the first such image.
    """
    plain = [_plain(value) for value in values]
    for index, value in enumerate(plain):
        _check_present(value, where(index))
    found: dict[TargetKind, int] = {}
    for index, value in enumerate(plain):
        found.setdefault(_kind_of(value, where(index)), index)
    if kind is None and len(found) > 1:
        (first, index), (second, other) = list(found.items())[:2]
        raise DataError(
            f"the label of {where(other)} is {plain[other]!r} ({second}), but that of {where(index)} is "
            f"{plain[index]!r} ({first}): {_EXPECTED}"
        )
    chosen = kind or next(iter(found), "classification")
    if chosen == "regression":
        return _scores(plain, where, named=kind is not None)
    names = None if class_names is None else _distinct_names(class_names)
    if chosen == "multilabel":
        labels = [_label_names(value, names, where(index)) for index, value in enumerate(plain)]
        return _with_classes([tuple(sorted(set(found))) for found in labels], "multilabel", plain, names)
    classes = [_class_name(value, names, where(index)) for index, value in enumerate(plain)]
    return _with_classes(classes, "classification", plain, names)


def _plain(value: object) -> object:
    """Return a value of NumPy, torch or pandas as a Python value, and any collection as a tuple."""
    if isinstance(value, str | bool | int | float):
        return value.item() if hasattr(value, "item") else value
    if type(value).__name__ in _MISSING_TYPES:
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()  # an array, a tensor, or a scalar of one
    if isinstance(value, Collection) and not isinstance(value, str | bytes | dict):
        return tuple(_plain(item) for item in value)
    return value


def _check_present(value: object, where: str) -> None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"{where} has no label ({value!r}): leave it out, or label it")
    if isinstance(value, str) and (not value.strip() or is_missing(value)):
        raise DataError(
            f"the label of {where} is {value!r}, which usually means a missing value: leave the image out, or if it is "
            "a name, spell it differently"
        )
    if isinstance(value, tuple):
        for item in value:
            if item is None or isinstance(item, str):
                _check_present(item, where)


def _kind_of(value: object, where: str) -> TargetKind:
    match value:
        case bool() | int() | str():
            return "classification"
        case float():
            return "regression"
        case tuple():
            return "multilabel"
    raise DataError(f"the label of {where} is {str(value)[:80]!r}, a {type(value).__name__}: {_EXPECTED}")


def _scores(plain: Sequence[object], where: Callable[[int], str], named: bool) -> Targets:
    scores: list[float] = []
    for index, value in enumerate(plain):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"the score of {where(index)} must be a finite number, got {value!r}")
        scores.append(float(value))
    distinct, values = set(scores), list[NamedTarget](scores)
    if named or len(distinct) > _MAX_CLASS_LIKE or not all(score.is_integer() for score in distinct):
        return Targets(values, "regression", ())
    note = "the labels are floating-point numbers, so a number is predicted: pass integers if they are classes"
    return Targets(values, "regression", (), (note,))


def _class_name(value: object, names: Sequence[str] | None, where: str) -> str:
    if isinstance(value, float) and value.is_integer():  # as pandas stores integers beside missing values
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and names is not None:
        if not 0 <= value < len(names):
            missing = "; -1 usually means that it has no label" if value == -1 else ""
            raise DataError(f"the label of {where} is {value}, but there are {len(names)} class names{missing}")
        return names[value]
    if isinstance(value, str | int):
        return canonical(str(value).strip())
    raise DataError(
        f"the label of {where} must be the name or number of a class, got {value!r}: call the column score to predict "
        "a number, or labels for any number of labels"
    )


def _label_names(value: object, names: Sequence[str] | None, where: str) -> list[str]:
    if not isinstance(value, tuple):
        return [_class_name(value, names, where)]
    if names is None and len(value) > 1 and all(isinstance(item, bool | float) or item in (0, 1) for item in value):
        raise DataError(
            f"the label of {where} is {str(value)[:80]}, a row of indicators: pass the names of the labels it "
            'has, such as ["cat", "indoors"], or with one label for each image its number, such as labels.argmax(1)'
        )
    return [_class_name(item, names, where) for item in value]


def _with_classes(
    values: Iterable[NamedTarget], kind: TargetKind, plain: Sequence[object], names: Sequence[str] | None
) -> Targets:
    values = list(values)
    present = {name for value in values for name in names_in(value)}
    if names is None:
        numbers = {item for value in plain for item in (value if isinstance(value, tuple) else (value,))}
        are_numbers = all(isinstance(item, int) and not isinstance(item, bool) for item in numbers)
        return Targets(values, kind, tuple(sorted(present, key=int if are_numbers else str)))
    absent = [name for name in names if name not in present]
    # Labels may be given by name beside the class names.
    classes = [name for name in names if name in present] + sorted(present.difference(names))
    notes = [f"no image is of {abbreviate(absent, 5)}: the model will not know these classes"] if absent else []
    return Targets(values, kind, tuple(classes), tuple(notes))


def _distinct_names(class_names: Sequence[object]) -> list[str]:
    """Return the names of classes as text; several, as torchvision gives for ImageNet, are joined, and equal ones told
    apart by their number.
    """
    names = [
        canonical(", ".join(map(str, name)) if isinstance(name, tuple | list) else str(name)) for name in class_names
    ]
    counts = Counter(names)
    return [f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(names)]
