"""Predictions of an exported model's outputs: `megavit.predict.postprocess.postprocess` for arrays, without PyTorch."""

from collections.abc import Mapping, Sequence

import numpy as np

from megavit.config.export_info import DISTANCE, EMBEDDING, PROBABILITIES, SCORE, ExportInfo
from megavit.errors import BundleError
from megavit.predict.finite import NOT_FINITE, finite_rows
from megavit.predict.prediction import Prediction

Ranked = tuple[tuple[str, float], ...]


def predictions(
    info: ExportInfo, outputs: Mapping[str, np.ndarray], top: int, coverage: float | None
) -> list[Prediction]:
    """One for each image of a batch.

    Args:
        outputs: of the model, by name.
        top: how many classes or labels to list.
        coverage: one of the model's, or None.

    Raises:
        BundleError: for a model without a classifier, or answers that are not finite.
    """
    if SCORE not in outputs and PROBABILITIES not in outputs:
        raise BundleError("this model has no classifier; its embeddings say what it sees in images")
    if not finite_rows(*outputs.values()).all():
        raise BundleError(NOT_FINITE)
    marks: list[bool | None] = [None] * len(outputs[EMBEDDING])
    if info.ood_threshold is not None:
        marks = (outputs[DISTANCE] > info.ood_threshold).tolist()
    if info.target == "regression":
        width = None if coverage is None else (info.intervals or {})[str(coverage)]
        return [
            Prediction(
                value=value,
                out_of_distribution=mark,
                interval=None if width is None else (value - width, value + width),
            )
            for value, mark in zip(outputs[SCORE].tolist(), marks, strict=True)
        ]
    found = []
    for row, mark in zip(outputs[PROBABILITIES], marks, strict=True):
        order = np.argsort(-row, kind="stable")
        first = _named(row, order[: max(top, 1)], info.labels)
        if info.target == "multilabel":
            given = _named(row, order[row[order].astype(np.float64) >= np.array(info.thresholds)[order]], info.labels)
            found.append(Prediction(top=first, given=given, out_of_distribution=mark))
            continue
        own = None
        if coverage is not None:
            limits = np.array((info.sets or {})[str(coverage)])
            own = _named(row, order[cumulative_mass_above(row)[order] <= limits[order]], info.labels)
        found.append(Prediction(top=first, prediction_set=own, out_of_distribution=mark))
    return found


def cumulative_mass_above(probabilities: np.ndarray) -> np.ndarray:
    """`megavit.predict.postprocess.conformal.cumulative_mass_above` of one image, (C,) float64."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order].astype(np.float64)
    mass = np.empty_like(ordered)
    mass[order] = ordered.cumsum() - ordered
    return mass


def _named(row: np.ndarray, places: np.ndarray, labels: Sequence[str]) -> Ranked:
    return tuple((labels[place], float(row[place])) for place in places)
