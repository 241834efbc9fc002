"""Check a data set from Python."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.config.checks import check_positive
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, read_samples
from megavit.data.load import DataSource, load_data
from megavit.data_check.check import CheckResult, run_checks
from megavit.data_check.label_issues import OutOfFoldPredictions
from megavit.data_check.probe import MIN_IMAGES, predict_out_of_fold
from megavit.data_check.report import check_output_folder, write_report
from megavit.errors import ConfigError
from megavit.predict.predictor import Predictor, load
from megavit.runtime.device import pick_device
from megavit.training.backbone_engine import find_backbone_engine
from megavit.training.cross_val_predict import cross_val_predict
from megavit.training.progress import Reporter
from megavit.weights.bundle.bundle import SAMPLES

DEFAULT_MINUTES = 3.0


def check(
    data: DataSource,
    *,
    out: str | os.PathLike[str] | None = None,
    bundle: str | os.PathLike[str] | None = None,
    minutes: float | None = None,
    skip_labels: bool = False,
    device: str = "auto",
    reporter: ReporterChoice = "auto",
) -> CheckResult:
    """Check labeled images for broken files, duplicates, label errors and more, and return the findings, worst first.

    Label errors are found with a backbone if one is on this machine and the images are photographs, else with models
    trained on the other images.

    Args:
        data: labeled images, as for `megavit.train`.
        out: new folder for check.csv and an HTML page with the images; None to write nothing.
        bundle: bundle or `Run` whose features find label errors, without training.
        minutes: time budget in minutes to train models that find label errors; None for 3, if there is no backbone.
        skip_labels: whether to look for no label errors.
        device: as for `megavit.load`.
        reporter: as for `megavit.train`.

    Raises:
        BundleError, ConfigError, DataError: if images and bundle cannot be used, or not together.
        OutputError: if `out` is not empty or cannot be written.
    """
    if bundle is not None and minutes is not None:
        raise ConfigError("--minutes limits the training of models, and with --bundle none is trained: leave it out")
    if skip_labels and (bundle is not None or minutes is not None):
        raise ConfigError("--skip-labels cannot be combined with --bundle or --minutes: leave out one of them")
    if minutes is not None:
        check_positive("minutes", minutes)
    pick_device(device)
    predictor = None if bundle is None else load(bundle, device=device)
    if out is not None:
        check_output_folder(Path(out), data)
    with open_reporter(reporter) as shown:
        # With the splits that training would draw.
        images = load_data(data, DataRecipe(), partial(shown.progress, "checking images"), verify="all")
        reason = "--skip-labels was given" if skip_labels else reason_to_skip_labels(images)
        predictions = None if reason else predict_held_out(images, predictor, minutes, device, shown)
        result = replace(run_checks(images, predictions, shown.progress), skip_reason=reason)
    if out is not None:
        write_report(Path(out), result)
    return result


def reason_to_skip_labels(images: LabeledImages) -> str:
    """Return why label errors cannot be found; "" if they can."""
    if images.target != "classification":
        what = "several labels" if images.target == "multilabel" else "a number"
        return f"the images have {what} each, but label errors can only be found among single classes"
    if len(images.samples) < MIN_IMAGES:
        return f"{len(images.samples)} images are too few to learn from: at least {MIN_IMAGES} are needed"
    return ""


def predict_held_out(
    images: LabeledImages, predictor: Predictor | None, minutes: float | None, device: str, reporter: Reporter
) -> OutOfFoldPredictions:
    """Return out-of-fold predictions of a probe on a bundle's or a backbone's features, or else of new models.

    New models are also trained if `minutes` is given.
    """
    progress = partial(reporter.progress, "embedding images")
    if predictor is not None:
        return predict_out_of_fold(predictor.engine, images, read_samples(predictor.folder / SAMPLES), progress)
    found = None if minutes else find_backbone_engine(images, pick_device(device), reporter)
    if found is None:
        return cross_val_predict(images, minutes or DEFAULT_MINUTES, reporter, device)
    predictions = predict_out_of_fold(found.engine, images, progress=progress, shared=found.shared)
    return replace(predictions, model=f"a linear probe on the embeddings of {found.backbone.name}")
