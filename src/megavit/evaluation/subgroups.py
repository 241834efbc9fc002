"""Compute metrics of subgroups of the images, such as by camera, and test whether they differ."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megavit.config.target import TargetKind
from megavit.data.dataset import Sample
from megavit.data.group_column import GroupColumn
from megavit.errors import DataError
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.dispatch import METRIC_NAMES, PrimaryMetric, make_primary_metric
from megavit.evaluation.metrics.significance import SIGNIFICANCE_LEVEL

MAX_GROUPS = 50

_PERMUTATIONS = 1000
_MAX_ELEMENTS = 200_000_000
"""Elements processed by the permutation test, which takes about two seconds."""


@dataclass(frozen=True)
class Subgroup:
    """The images with the same value in a column, "" if empty.

    `metric` is the primary metric with its 95% interval, or None if no image has a label.
    """

    value: str
    images: int
    metric: Interval | None


@dataclass(frozen=True)
class Subgroups:
    """The images grouped by the values of a column, the worst group first.

    `p_value` is that of the permutation test of the hypothesis that the groups do not differ.
    """

    column: str
    metric: str
    groups: tuple[Subgroup, ...]
    p_value: float
    significant: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the subgroups as plain JSON types."""
        return asdict(self)


def select_groups(column: GroupColumn, samples: Sequence[Sample]) -> list[str]:
    """Return the column's value for each sample.

    Raises:
        DataError: if the column has a single value or more than `MAX_GROUPS`.
    """
    values = [column.values[sample.name] for sample in samples]
    distinct = sorted(set(values))
    if len(distinct) > MAX_GROUPS:
        raise DataError(
            f"the column {column.name!r} of {column.source!r} has {len(distinct)} different values, but a group needs "
            f"many images, so at most {MAX_GROUPS} are allowed: bin numbers or dates into ranges, such as 20-29, in a "
            "new column"
        )
    if len(distinct) < 2:
        raise DataError(
            f"all {len(values)} evaluated images have {distinct[0]!r} in the column {column.name!r} of "
            f"{column.source!r}, so there are no groups to compare: choose another column"
        )
    return values


def compute_subgroups(
    column: str, values: Sequence[str], outputs: Tensor, targets: Tensor, kind: TargetKind
) -> Subgroups:
    """Return the primary metric of each group, and whether the groups differ significantly.

    `outputs`, `targets` and `kind` are as for `megavit.evaluation.metrics.dispatch.make_primary_metric`.
    """
    names, codes = np.unique(np.asarray(values), return_inverse=True)
    groups = []
    for code, name in enumerate(names.tolist()):
        members = torch.from_numpy(np.flatnonzero(codes == code))
        metric = make_primary_metric(outputs[members], targets[members], kind)
        groups.append(Subgroup(name, len(members), metric.interval()))
    sign = -1 if kind == "regression" else 1
    groups.sort(key=lambda group: (group.metric is None, sign * group.metric.value if group.metric else 0, group.value))
    p_value = _permutation_test(make_primary_metric(outputs, targets, kind), codes, len(names))
    return Subgroups(column, METRIC_NAMES[kind], tuple(groups), p_value, p_value < SIGNIFICANCE_LEVEL)


def _permutation_test(metric: PrimaryMetric, codes: NDArray[np.int64], groups: int, seed: int = 0) -> float:
    """Return the p-value: how often permuted groups have at least the observed sum of squares between groups."""
    random = np.random.default_rng(seed)
    sizes = np.bincount(codes, minlength=groups)

    def between_groups(codes: NDArray[np.int64]) -> float:
        values = metric.compute((codes == np.arange(groups)[:, None]).astype(np.float64))
        known = ~np.isnan(values)
        if not known.any():
            return 0.0
        mean = np.average(values[known], weights=sizes[known])
        return float(sizes[known] @ np.square(values[known] - mean))

    permutations = max(100, min(_PERMUTATIONS, _MAX_ELEMENTS // (len(codes) * groups * metric.work)))
    # Tolerate rounding errors between equal values.
    observed = between_groups(codes) * (1 - 1e-9)
    as_large = sum(between_groups(random.permutation(codes)) >= observed for _ in range(permutations))
    return (as_large + 1) / (permutations + 1)
