"""Convert a model's outputs to predictions with NumPy only, for bundles and exported models.

The web page (`megavit/page/static/predictions.js`) and the example script (`megavit.exporting.docs.example_script`)
have the same rules in code that cannot import this; tests/page/test_predictions_parity.py compares them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from megavit.config.export_info import DISTANCE, PROBABILITIES, SCORE
from megavit.config.target import TargetKind
from megavit.predict.prediction import Prediction, Ranked

NOT_FINITE = "the model's output is not a finite number (NaN or infinity); its weights or settings are damaged"


@dataclass(frozen=True, kw_only=True)
class DecisionRule:
    """The rule by which outputs become labels, prediction sets and intervals.

    Attributes:
        target: kind of target that the model was trained for.
        labels: names of the classes or labels, in the order of the probabilities.
        thresholds: for "multilabel", the lowest probability with which each label is assigned.
        ood_threshold: largest distance of an image that is not out of distribution; None if unknown.
        set_limits: for "classification", the limits of `PredictionSets.limits`, (C,); None for no sets.
        interval_half_width: for "regression"; None for no intervals.
    """

    target: TargetKind
    labels: Sequence[str]
    thresholds: Sequence[float] = ()
    ood_threshold: float | None = None
    set_limits: np.ndarray | None = None
    interval_half_width: float | None = None


def make_predictions(outputs: Mapping[str, np.ndarray], rule: DecisionRule, top: int) -> list[Prediction]:
    """Return the prediction for each image of a batch, with `top` (at least 1) classes or labels listed.

    Args:
        outputs: finite arrays by name: probabilities (B, C) or scores (B,), and for `rule.ood_threshold` distances
            (B,).
    """
    values = outputs[SCORE if rule.target == "regression" else PROBABILITIES]
    flags: list[bool | None] = [None] * len(values)
    if rule.ood_threshold is not None:
        flags = (outputs[DISTANCE] > rule.ood_threshold).tolist()
    if rule.target == "regression":
        half = rule.interval_half_width
        return [
            Prediction(
                value=value,
                out_of_distribution=flag,
                interval=None if half is None else (value - half, value + half),
            )
            for value, flag in zip(values.tolist(), flags, strict=True)
        ]
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = _rank(values, order[:, : max(top, 1)], rule.labels)
    if rule.target == "multilabel":
        assigned = _rank(values, order, rule.labels, values.astype(np.float64) >= np.array(rule.thresholds))
        return [
            Prediction(top=row, assigned=labels, out_of_distribution=flag)
            for row, labels, flag in zip(ranked, assigned, flags, strict=True)
        ]
    sets: Sequence[Ranked | None] = [None] * len(values)
    if rule.set_limits is not None:
        sets = _rank(values, order, rule.labels, cumulative_mass_above(values) <= rule.set_limits)
    return [
        Prediction(top=row, prediction_set=members, out_of_distribution=flag)
        for row, members, flag in zip(ranked, sets, flags, strict=True)
    ]


def cumulative_mass_above(probabilities: np.ndarray) -> np.ndarray:
    """Return for each class the sum of the probabilities ranked above it, (B, C) float64; ties are ranked by index.

    This is the score of adaptive prediction sets (arXiv 2006.02544) without the class's own probability.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    mass = np.empty_like(ordered)
    np.put_along_axis(mass, order, ordered.cumsum(axis=1) - ordered, axis=1)
    return mass


def finite_rows(*arrays: Any) -> np.ndarray:
    """Return which rows are finite in all given arrays or CPU tensors (B, ...): (B,) bools."""
    checked = [np.isfinite(np.asarray(array)) for array in arrays]
    return np.logical_and.reduce([rows.all(axis=tuple(range(1, rows.ndim))) for rows in checked])


def _rank(
    probabilities: np.ndarray, order: np.ndarray, labels: Sequence[str], selected: np.ndarray | None = None
) -> list[Ranked]:
    """Return each image's (label, probability) pairs in `order`, limited to those in the mask `selected` (B, C)."""
    ordered = np.take_along_axis(probabilities, order, axis=1)
    masks = np.ones_like(order, bool) if selected is None else np.take_along_axis(selected, order, axis=1)
    return [
        tuple((labels[index], value) for index, value in zip(indices[mask].tolist(), row[mask].tolist(), strict=True))
        for indices, row, mask in zip(order, ordered, masks, strict=True)
    ]
