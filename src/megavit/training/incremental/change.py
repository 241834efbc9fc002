"""Calibrate, measure and write a bundle whose head has other rows than before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.data.dataset import SampleRow, rows_csv
from megavit.data.image_dataset import limit_size
from megavit.engine.engine import ModelOutput
from megavit.errors import BundleError, OutputError
from megavit.evaluation.metrics.dispatch import Metrics, compute_metrics
from megavit.evaluation.uncertainty.uncertainty import UncertaintyMetrics, compute_uncertainty, fit_uncertainty
from megavit.predict.postprocess.postprocess import Calibrator
from megavit.predict.predictor import Predictor
from megavit.training.incremental.outputs import SplitOutputs
from megavit.training.incremental.run_images import LOCATION, ImagePart
from megavit.training.report.examples import REFERENCE_SIDE
from megavit.weights.bundle.bundle import REFERENCE, build_model, find_bundle, is_bundle, save_bundle
from megavit.weights.bundle.info import library_versions
from megavit.weights.bundle.safetensors_io import load_weights, read_tensors

WEIGHT, BIAS = "mlp_head.weight", "mlp_head.bias"


@dataclass(frozen=True)
class NewHead:
    """The classes of a changed bundle, and the head's weight (C, D) and bias (C,).

    Attributes:
        parts: number of classes in each part of the head that is computed by itself.
    """

    labels: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    parts: tuple[int, ...]


@dataclass(frozen=True)
class HeadMetrics:
    """The calibration of a changed head, fitted on validation images, and its metrics on test images.

    Attributes:
        outputs: calibrated probabilities (N, C) of the test images.
    """

    calibration: Calibration
    tensors: dict[str, Tensor]
    outputs: Tensor
    test: Metrics
    uncertainty: UncertaintyMetrics


def measure_head(predictor: Predictor, head: NewHead, images: Mapping[str, SplitOutputs]) -> HeadMetrics:
    """Return the calibration of a head fitted on the validation images, and its metrics on the test images.

    The out-of-distribution mark is fitted on the training images.
    """
    val, test, train = (images[split] for split in ("val", "test", "train"))
    target = predictor.info.target

    def outputs(one: SplitOutputs) -> ModelOutput:
        return one.with_head(head.weight, head.bias)

    calibration, tensors = fit_uncertainty(
        outputs(val),
        val.labels,
        target,
        (train.pooled, train.labels),
        false_positive_rate=predictor.info.calibration.ood_false_alarm_rate,
    )
    calibrator = Calibrator(calibration, tensors, target, len(head.labels))
    measured = outputs(test)
    uncertainty = compute_uncertainty(calibrator, measured, test.labels)
    probabilities = calibrator.outputs(measured.logits)
    return HeadMetrics(
        calibration=replace(calibration, test_metrics=uncertainty.to_dict()),
        tensors=tensors,
        outputs=probabilities,
        test=compute_metrics(probabilities, test.labels, head.labels, target),
        uncertainty=uncertainty,
    )


def get_head_parts(predictor: Predictor) -> tuple[int, ...]:
    """Return the number of classes in each part of a bundle's head that is computed by itself."""
    return tuple(predictor.info.head_parts) or (len(predictor.labels),)


def check_changeable(predictor: Predictor) -> None:
    """Raise a BundleError unless the bundle predicts one class for each image."""
    if not predictor.model.config.num_classes:
        raise BundleError(
            f"{predictor.folder} has no classifier: train one on top of its features, with megavit train DATA --from "
            f"{predictor.folder}"
        )
    if predictor.info.cosine_dim:
        raise BundleError(
            f"{predictor.folder} tells classes by texts: convert its model again with the names of all of them, or "
            "train on images, with megavit train DATA --from"
        )
    if predictor.target != "classification":
        kind = {"multilabel": "any number of labels", "regression": "a number"}[predictor.target]
        raise BundleError(
            f"{predictor.folder} predicts {kind} for an image, and classes can only be changed where each image has "
            "one: train it on the changed data, with megavit train DATA"
        )


def check_out(predictor: Predictor, out: Path) -> Path:
    """Return the folder to write a changed bundle to: a new one, or that of the bundle itself, which it replaces.

    Raises:
        OutputError: if there is anything else.
    """
    if not out.exists():
        return out
    if is_bundle(out) and find_bundle(out).resolve() == predictor.folder.resolve():
        return predictor.folder
    raise OutputError(
        f"{out} already exists: choose a new folder with --out, or pass that of the bundle itself to replace it"
    )


def write_changed(
    predictor: Predictor,
    out: Path,
    head: NewHead,
    measured: HeadMetrics,
    *,
    location: str,
    data: dict[str, Any],
    rows: Sequence[SampleRow],
    examples: Sequence[Tensor] = (),
) -> None:
    """Write the bundle with another head to `out`.

    Args:
        location: where the bundle's own images are.
        data: entries that are added to the record of the bundle's data.
        rows: rows of `samples.csv`.
        examples: images to append to the reference images.

    Raises:
        OutputError: if `out` cannot be written.
    """
    config = replace(predictor.model.config, num_classes=len(head.labels))
    info = replace(
        predictor.info,
        model=config,
        labels=list(head.labels),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics=measured.test.to_dict(),
        data=predictor.info.data | {LOCATION: location} | data,
        versions=library_versions(),
        files={},
        calibration=measured.calibration,
        int8={},  # its accuracy was that of the other classes
        head_parts=list(head.parts) if len(head.parts) > 1 else [],
    )
    model = build_model(info)
    tensors = {name: tensor.cpu() for name, tensor in predictor.model.state_dict().items()}
    load_weights(model, tensors | {WEIGHT: head.weight, BIAS: head.bias}, str(predictor.folder))
    save_bundle(
        out,
        model.eval(),
        info,
        reference=[*_reference_images(predictor), *examples],
        samples=rows_csv(rows),
        calibration_tensors=measured.tensors,
    )


def select_examples(parts: Sequence[ImagePart]) -> list[Tensor]:
    """Return the first test image of each source, or the first if none is for testing, downscaled if large."""
    examples: list[Tensor] = []
    for part in parts:
        samples = [*(sample for sample in part.samples if sample.split == "test"), *part.samples]
        examples += [limit_size(part.images.load_pixels(sample), REFERENCE_SIDE) for sample in samples[:1]]
    return examples


def _reference_images(predictor: Predictor) -> list[Tensor]:
    tensors = read_tensors(predictor.folder / REFERENCE)
    return [tensors[f"image.{index}"] for index in range(len(tensors) - 1)]
