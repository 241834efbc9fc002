"""Verify that an exported model gives its bundle's outputs on real images in its runtime."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megavit.config.export_info import DISTANCE, EMBEDDING, PROBABILITIES, SCORE, ExportInfo, ExportPrecision
from megavit.data.augment import normalize
from megavit.data.scan import Progress
from megavit.errors import ExportError
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.significance import bootstrap_accuracy_difference
from megavit.exporting.parity_images import ParityImage, limit_sides, stretch_images
from megavit.exporting.quantization import keeps_ood
from megavit.predict.exported_predictor import to_input_channels
from megavit.predict.predictor import Predictor
from megavit.predict.runtimes import Run


@dataclass(frozen=True)
class Tolerance:
    """The largest errors allowed on any image.

    Attributes:
        outputs: error of probabilities, or of scores in standard deviations of the training scores.
        features: error of embeddings and distances, relative to the largest value.
    """

    outputs: float
    features: float


TOLERANCES: dict[ExportPrecision, Tolerance] = {
    "float32": Tolerance(1e-3, 1e-3),
    "float16": Tolerance(1e-2, 1e-2),
    "bfloat16": Tolerance(1e-1, 1e-1),
}
"""Tolerances by precision, except for int8, which is judged by its accuracy."""


@dataclass(frozen=True)
class ParityResult:
    """The differences between an exported model and PyTorch in float32.

    Attributes:
        images, stretched: number of images compared, and how many of these were resized to other sizes.
        output_error, feature_error: largest errors, as defined by `Tolerance`.
        changed: number of images with another most probable class or other labels.
        ood_changed: number of images that are out of distribution for one of the two only; None if that is unknown.
        worst: name of the image with the largest error.
        accuracy, exported_accuracy: accuracies on the images whose class is known; None if there are none.
        accuracy_change: confidence interval of their difference, paired by image; None if there are none.
    """

    images: int
    stretched: int
    output_error: float
    feature_error: float
    changed: int
    ood_changed: int | None
    worst: str
    accuracy: float | None = None
    exported_accuracy: float | None = None
    accuracy_change: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Outputs:
    """The values (N, classes), (N, 1) or (N, 0), embeddings (N, D) and distances (N, 1) or (N, 0) of N images."""

    values: Tensor
    embedding: Tensor
    distance: Tensor


def compare(
    predictor: Predictor,
    run: Run,
    info: ExportInfo,
    images: Sequence[ParityImage],
    *,
    batch_sizes: Sequence[int],
    max_side: int | None = None,
    progress: Progress | None = None,
) -> ParityResult:
    """Return how far an exported model is from PyTorch in float32 on the images, some of them also resized.

    Args:
        batch_sizes: numbers of images in a batch, in turn.
        max_side: height and width that larger images are resized to, for "pixels"; None for no limit.
        progress: called with the number of images done and of all.
    """
    compared = list(images)
    if info.input == "pixels":
        compared = limit_sides([*images, *stretch_images(images)], max_side)
    parts: list[tuple[Outputs, Outputs]] = []
    order: list[int] = []
    for indices in _batches(compared, info, batch_sizes):
        batch = [compared[index] for index in indices]
        parts.append((_run_pytorch(predictor, batch), _run_exported(predictor, run, info, batch)))
        order += indices
        if progress is not None:
            progress(len(order), len(compared))
    expected, exported = (_concatenate([part[side] for part in parts]) for side in (0, 1))
    output_errors = _errors(expected.values, exported.values)
    feature_errors = torch.maximum(
        _errors(expected.embedding, exported.embedding) / _magnitude(expected.embedding),
        _errors(expected.distance, exported.distance) / _magnitude(expected.distance),
    )
    # The worst image is chosen by the outputs if they differ, else by the features.
    worst = compared[order[int((output_errors if output_errors.any() else feature_errors).argmax())]]
    labels = [compared[index].label for index in order]
    is_classifier = predictor.target == "classification" and bool(expected.values.shape[1])
    is_labeled = torch.tensor([is_classifier and label is not None for label in labels])
    correct: list[Tensor] = []
    if is_labeled.any():
        targets = torch.tensor([label for label in labels if label is not None])
        correct = [side.values[is_labeled].argmax(dim=1) == targets for side in (expected, exported)]
    changed = _decisions(predictor, expected.values) != _decisions(predictor, exported.values)
    return ParityResult(
        images=len(compared),
        stretched=len(compared) - len(images),
        output_error=output_errors.max().item(),
        feature_error=feature_errors.max().item(),
        changed=int(changed.any(dim=1).sum()),
        ood_changed=_count_ood_changes(predictor, expected.distance, exported.distance),
        worst=worst.name,
        accuracy=correct[0].double().mean().item() if correct else None,
        exported_accuracy=correct[1].double().mean().item() if correct else None,
        accuracy_change=bootstrap_accuracy_difference(*correct) if correct else None,
    )


def check_parity(result: ParityResult, precision: ExportPrecision, max_accuracy_drop: float, target: str) -> None:
    """Raise an ExportError unless the errors, or for int8 the accuracy drop in percentage points, are small enough.

    Int8 must also find nearly the same images out of distribution.
    """
    tolerance = TOLERANCES.get(precision)
    if tolerance is None:
        assert result.accuracy_change is not None
        drop = -100 * result.accuracy_change.value
        if not drop <= max_accuracy_drop:
            raise ExportError(
                f"int8 in {target} loses {drop:.2f} points of accuracy on {result.images:,} images, more than "
                f"{max_accuracy_drop:g}; nothing was written: raise --max-accuracy-drop, or use --precision float16, "
                "which loses next to nothing"
            )
        if not keeps_ood(result.ood_changed, result.images):
            raise ExportError(
                f"int8 in {target} is too coarse to tell which images are unlike the training images: "
                f"{result.ood_changed:,} of {result.images:,} change; nothing was written: use --precision float16"
            )
        return
    if not (result.output_error <= tolerance.outputs and result.feature_error <= tolerance.features):
        raise ExportError(
            f"the outputs of {target} do not match PyTorch's: on {result.images:,} real images, of which "
            f"{result.worst!r} is the worst, outputs differ by up to {result.output_error:.2g} (allowed: "
            f"{tolerance.outputs:g}) and features by {result.feature_error:.2g} of the largest (allowed: "
            f"{tolerance.features:g}); nothing was written"
        )


def _batches(images: Sequence[ParityImage], info: ExportInfo, sizes: Sequence[int]) -> Iterator[list[int]]:
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        by_shape.setdefault(image.pixels.shape[:2] if info.input == "pixels" else (), []).append(index)
    next_size = cycle(sizes)
    for indices in by_shape.values():
        start = 0
        while start < len(indices):
            size = next(next_size)
            yield indices[start : start + size]
            start += size


def _run_pytorch(predictor: Predictor, batch: Sequence[ParityImage]) -> Outputs:
    output = predictor.engine.run_pytorch(torch.stack([predictor.prepare(image.pixels) for image in batch]))
    ood = predictor.calibrator.ood
    distance = None if ood is None else ood.distance(output.pooled)
    values = predictor.calibrator.outputs(output.logits) if predictor.info.model.num_classes else None
    return _to_outputs(predictor, values, output.pooled, distance)


def _run_exported(predictor: Predictor, run: Run, info: ExportInfo, batch: Sequence[ParityImage]) -> Outputs:
    if info.input == "pixels":
        inputs = np.stack([to_input_channels(image.pixels, info) for image in batch])
    else:
        inputs = prepared_inputs(predictor, batch)
    outputs = {name: torch.from_numpy(np.asarray(values)) for name, values in run(inputs).items()}
    values = outputs.get(PROBABILITIES, outputs.get(SCORE))
    return _to_outputs(predictor, values, outputs[EMBEDDING], outputs.get(DISTANCE))


def prepared_inputs(predictor: Predictor, images: Sequence[ParityImage]) -> np.ndarray:
    """Return images as the input "images": resized and normalized, float32 (B, C, height, width)."""
    prepared = torch.stack([predictor.prepare(image.pixels) for image in images])
    return normalize(prepared, predictor.info.preprocessing).numpy()


def _to_outputs(predictor: Predictor, values: Tensor | None, embedding: Tensor, distance: Tensor | None) -> Outputs:
    count = len(embedding)
    empty = torch.zeros(count, 0)
    values = empty if values is None else values.float().reshape(count, -1)
    if predictor.target == "regression":
        values = values / predictor.info.target.std
    return Outputs(values, embedding.float(), empty if distance is None else distance.float().reshape(count, 1))


def _concatenate(parts: Sequence[Outputs]) -> Outputs:
    return Outputs(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("values", "embedding", "distance"))
    )


def _decisions(predictor: Predictor, values: Tensor) -> Tensor:
    """Return the decisions for each image, (N, any) integers: the most probable class, or the assigned labels."""
    match predictor.target:
        case "classification":
            return values.argmax(dim=1, keepdim=True) if values.shape[1] else values.long()
        case "multilabel":
            return (values >= torch.tensor(predictor.info.target.thresholds)).long()
        case "regression":
            return torch.zeros(len(values), 1, dtype=torch.int64)


def _count_ood_changes(predictor: Predictor, expected: Tensor, exported: Tensor) -> int | None:
    threshold = predictor.info.calibration.ood_threshold
    if threshold is None or not expected.shape[1]:
        return None
    return int(((expected > threshold) != (exported > threshold)).sum())


def _errors(expected: Tensor, exported: Tensor) -> Tensor:
    """Return the largest error of each image, (N,); infinite if a value is not finite."""
    if not expected.shape[1]:
        return torch.zeros(len(expected))
    return (expected - exported).abs().nan_to_num(torch.inf, torch.inf).amax(dim=1)


def _magnitude(values: Tensor) -> float:
    return max(values.abs().max().item(), 1e-30) if values.numel() else 1.0
