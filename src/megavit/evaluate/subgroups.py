"""How good a model is in each group of images, such as each camera's; whether they differ by more than chance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from megavit.config.target import TargetKind
from megavit.data.dataset import Sample
from megavit.data.load import TABLES
from megavit.data.sources.table import column_of
from megavit.errors import DataError
from megavit.evaluate.metrics.bootstrap import Interval
from megavit.evaluate.metrics.dispatch import METRIC_NAMES, PrimaryMetric, make_primary_metric
from megavit.evaluate.metrics.significance import SIGNIFICANCE_LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_GROUPS = 50
"""Groups that a table can be read of, and that have images enough each."""

_SHUFFLES = 1000
_WORK = 200_000_000
"""Numbers gone through for the test: some two seconds."""


@dataclass(frozen=True)
class Subgroup:
    """The images with one value in the column.

    Attributes:
        value: as it stands there; "" where it is empty.
        images: their number.
        metric: what `Groups.metric` names, with its 95% interval; None where none of them has a label.
    """

    value: str
    images: int
    metric: Interval | None


@dataclass(frozen=True)
class Subgroups:
    """The images by the values of a column.

    Attributes:
        column: its name.
        metric: what was measured: accuracy, mean average precision or mean absolute error.
        groups: the worst first.
        p: how often groups of these sizes, drawn at random from the same images, lie as far apart (permutation test).
        differ: whether chance hardly explains how far they lie apart.
    """

    column: str
    metric: str
    groups: tuple[Subgroup, ...]
    p: float
    differ: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def read_group_column(source: str, column: str) -> dict[str, str]:
    """What that column of the data says of each image, by its name; asked before any image is read.

    Args:
        source: of the images, as the user named it.

    Raises:
        DataError: where the data is no table, or has no such column.
    """
    if Path(source).suffix.lower() not in TABLES or not Path(source).is_file():
        raise DataError(
            f"--group-by {column} is a column of a table, and {source!r} is none; write a .csv such as\n"
            f"  path,label,{column}\n  photos/1.jpg,cat,north"
        )
    return column_of(Path(source), column)


def read_group_values(source: str, column: str, samples: Sequence[Sample]) -> list[str]:
    """What the table says of each sample in that column.

    Raises:
        DataError: as `read_group_column`, and where the column makes no groups of these.
    """
    of = read_group_column(source, column)
    values = [of[sample.name] for sample in samples]
    distinct = sorted(set(values))
    if len(distinct) > MAX_GROUPS:
        raise DataError(
            f"the column {column!r} of {source!r} has {len(distinct)} different values, and a group needs many images: "
            f"at most {MAX_GROUPS}; put numbers or dates into ranges, such as 20-29, in a column of their own"
        )
    if len(distinct) < 2:
        raise DataError(
            f"in the column {column!r} of {source!r} all {len(values)} images measured have {distinct[0]!r}: "
            "there are no groups to tell apart"
        )
    return values


def compute_subgroups(
    column: str, values: Sequence[str], answers: Tensor, targets: Tensor, kind: TargetKind, seed: int = 0
) -> Subgroups:
    """The metric that the target is judged by, in each group.

    Args:
        values: of the images, such as `read_group_values` gives them.
        answers, targets, kind: as for `megavit.evaluate.metrics.dispatch.make_primary_metric`.
        seed: of the permutation test.
    """
    names, codes = np.unique(np.asarray(values), return_inverse=True)
    found = []
    for code, name in enumerate(names.tolist()):
        places = torch.from_numpy(np.flatnonzero(codes == code))
        metric = make_primary_metric(answers[places], targets[places], kind)
        found.append(Subgroup(name, len(places), metric.interval()))
    sign = -1 if kind == "regression" else 1
    found.sort(key=lambda group: (group.metric is None, sign * group.metric.value if group.metric else 0, group.value))
    p = _chance(make_primary_metric(answers, targets, kind), codes, len(names), seed)
    return Subgroups(column, METRIC_NAMES[kind], tuple(found), p, p < SIGNIFICANCE_LEVEL)


def _chance(metric: PrimaryMetric, codes: "NDArray[np.int64]", groups: int, seed: int) -> float:
    """How often images shuffled among the groups leave these as far apart, by the sum of squares between them."""
    random = np.random.default_rng(seed)
    sizes = np.bincount(codes, minlength=groups)

    def apart(codes: "NDArray[np.int64]") -> float:
        values = metric.of((codes == np.arange(groups)[:, None]).astype(np.float64))
        known = ~np.isnan(values)
        if not known.any():
            return 0.0
        mean = np.average(values[known], weights=sizes[known])
        return float(sizes[known] @ np.square(values[known] - mean))

    shuffles = max(100, min(_SHUFFLES, _WORK // (len(codes) * groups * metric.work)))
    # Rounding must not make what is equal a little less.
    seen = apart(codes) * (1 - 1e-9)
    as_far = sum(apart(random.permutation(codes)) >= seen for _ in range(shuffles))
    return (as_far + 1) / (shuffles + 1)
