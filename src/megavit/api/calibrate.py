"""Calibrate a bundle, or quantize it to int8, on labeled images from Python."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from megavit.api.held_out import read_held_out
from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.bench.precisions import BatchSpeed, time_precisions
from megavit.config.checks import check_range
from megavit.data.load import DataSource
from megavit.engine.engine import check_precision
from megavit.errors import OutputError
from megavit.evaluation.uncertainty.uncertainty import CalibrationResult, apply_calibration
from megavit.evaluation.uncertainty.uncertainty import calibrate as fit
from megavit.exporting.quantization import Int8Result, evaluate_int8, with_int8
from megavit.predict.predictor import load
from megavit.weights.bundle.bundle import copy_bundle


def calibrate(
    bundle: str | os.PathLike[str],
    data: DataSource,
    *,
    out: str | os.PathLike[str],
    temperature_only: bool = False,
    device: str = "auto",
    reporter: ReporterChoice = "auto",
) -> CalibrationResult:
    """Calibrate probabilities, prediction sets and out-of-distribution mark, and write the bundle to `out`.

    `megavit.train` calibrates by itself: this is for bundles that were converted, or whose images have changed since.
    Of the images that the model was not trained on, some are used to fit and the others to measure.

    Args:
        bundle: bundle or `Run`, as for `megavit.load`.
        data: labeled images, as for `megavit.train`.
        out: new folder for the calibrated bundle.
        temperature_only: fit the softmax temperature only, which models of Hugging Face and timm can express.
        device: as for `megavit.load`.
        reporter: as for `megavit.train`.

    Raises:
        BundleError, ConfigError, DataError: if bundle and images cannot be used, or not together.
        OutputError: if `out` exists or cannot be written.
    """
    folder = _new_folder(out)
    predictor = load(bundle, device=device)
    with open_reporter(reporter) as shown:
        images, selection = read_held_out([predictor], data, shown)
        progress = partial(shown.progress, "calibrating")
        result = fit(predictor, images, selection, progress, temperature_only=temperature_only)
    copy_bundle(predictor.folder, folder, apply_calibration(predictor.info, result), result.tensors)
    return result


@dataclass(frozen=True)
class Quantization:
    """What int8 costs a bundle in accuracy, and where it is faster on this machine.

    Attributes:
        result: accuracies in int8 and float32.
        speeds: for single images and for batches of 16, the time in each precision.
        folder: folder of the int8 bundle; None if too much accuracy was lost, or too many images are out of
            distribution for one precision only.
    """

    result: Int8Result
    speeds: tuple[BatchSpeed, ...]
    folder: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON types."""
        speeds = [speed.to_dict() for speed in self.speeds]
        return self.result.to_dict() | {"speeds": speeds, "out": None if self.folder is None else str(self.folder)}


def quantize(
    bundle: str | os.PathLike[str],
    data: DataSource,
    *,
    out: str | os.PathLike[str],
    max_accuracy_drop: float = 0.5,
    reporter: ReporterChoice = "auto",
) -> Quantization:
    """Quantize a bundle to int8 for CPUs, and write it to `out` if the loss of accuracy is small.

    Accuracy in int8 and float32, and which images are out of distribution, are compared on those images that the model
    was not trained on. Speed is compared with float32 and bfloat16 on this machine, as int8 is slower on some
    processors.

    Args:
        bundle: bundle or `Run`, as for `megavit.load`.
        data: labeled images, as for `megavit.train`.
        out: new folder for the bundle, which `megavit.load` uses with precision="int8".
        max_accuracy_drop: largest loss of accuracy, in percentage points; if more is lost, nothing is written.
        reporter: as for `megavit.train`.

    Raises:
        BundleError, ConfigError, DataError: if bundle and images cannot be used, or not together.
        OutputError: if `out` exists or cannot be written.
    """
    check_range("max_accuracy_drop", max_accuracy_drop, 0, 100)
    folder = _new_folder(out)
    predictor = load(bundle, device="cpu")
    check_precision("int8", next(predictor.model.parameters()).device)
    with open_reporter(reporter) as shown:
        images, selection = read_held_out([predictor], data, shown)
        bounds, result = evaluate_int8(predictor, images, selection, partial(shown.progress, "evaluating"))
    speeds = time_precisions(predictor.model, predictor.info.preprocessing, bounds)
    if result.change.value * 100 < -max_accuracy_drop or not result.keeps_ood:
        return Quantization(result, speeds, None)
    info = with_int8(predictor.info, bounds, result, [speed.to_dict() for speed in speeds])
    copy_bundle(predictor.folder, folder, info)
    return Quantization(result, speeds, folder)


def _new_folder(out: str | os.PathLike[str]) -> Path:
    """Return the path of a folder to write, or raise an OutputError if it exists."""
    if Path(out).exists():
        raise OutputError(f"{out} already exists: choose a new folder with --out")
    return Path(out)
