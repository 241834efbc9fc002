"""The command `megavit check`."""

from pathlib import Path
from typing import TYPE_CHECKING

from megavit.cli.options import Device, Json, LabeledData
from megavit.errors import ConfigError

if TYPE_CHECKING:
    from megavit.cli.render.training import TerminalReporter
    from megavit.data.dataset import LabeledImages
    from megavit.data_check.label_issues import OutOfFoldPredictions
    from megavit.predict.predictor import Predictor

DEFAULT_MINUTES = 3.0


def check(
    data: LabeledData,
    /,
    *,
    out: Path | None = None,
    bundle: Path | None = None,
    minutes: float | None = None,
    skip_labels: bool = False,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Check a data set for broken files, duplicates, label errors and more.

    Finds files that cannot be read, exact and near duplicates (most serious
    between train and test), likely label errors, blank images, classes with
    few images, and more, the most serious first. Label errors are found with
    a backbone if one is on this machine and the images are photographs (see
    megavit backbones), else with models trained on the other images. The exit
    code is 1 if anything serious was found.

    For example: megavit check photos --out checked

    Args:
        out: New folder for check.csv and an HTML page with the images.
        bundle: Find label errors with the features of this bundle or hf-hub:USER/NAME, without training.
        minutes: Time budget in minutes to train models that find label errors. Default: 3, if there is no backbone.
        skip_labels: Do not look for label errors.
    """
    if bundle is not None and minutes is not None:
        raise ConfigError("--minutes limits the training of models, and with --bundle none is trained: leave it out")
    if skip_labels and (bundle is not None or minutes is not None):
        raise ConfigError("--skip-labels cannot be combined with --bundle or --minutes: leave out one of them")

    from megavit.cli.console import results
    from megavit.cli.render.findings import print_check, show_check
    from megavit.cli.render.training import TerminalReporter
    from megavit.config.recipe import DataRecipe
    from megavit.data.load import load_data
    from megavit.data_check.check import run_checks
    from megavit.data_check.report import PAGE, TABLE, check_output_folder, write_report
    from megavit.predict.predictor import load
    from megavit.runtime.device import pick_device

    pick_device(device)
    predictor = None if bundle is None else load(bundle, device=device)
    if out is not None:
        check_output_folder(out, data)
    with TerminalReporter() as reporter:
        # With the splits that megavit train would draw.
        images = load_data(
            data, DataRecipe(), lambda done, total: reporter.progress("checking images", done, total), verify="all"
        )
        reason = "--skip-labels was given" if skip_labels else reason_to_skip_labels(images)
        predictions = None if reason else predict_held_out(images, predictor, minutes, device, reporter)
        result = run_checks(images, predictions, reporter.progress)
    if out is not None:
        write_report(out, result, reason)
    if json:
        print_check(result, reason, out)
    else:
        show_check(result, reason)
        if out is not None:
            results.print(f"{out / PAGE} shows the images; {out / TABLE} lists all findings")
    return 1 if result.is_serious else 0


def reason_to_skip_labels(images: "LabeledImages") -> str:
    """Return why label errors cannot be found; "" if they can."""
    from megavit.data_check.probe import MIN_IMAGES

    if images.target != "classification":
        what = "several labels" if images.target == "multilabel" else "a number"
        return f"the images have {what} each, but label errors can only be found among single classes"
    if len(images.samples) < MIN_IMAGES:
        return f"{len(images.samples)} images are too few to learn from: at least {MIN_IMAGES} are needed"
    return ""


def predict_held_out(
    images: "LabeledImages",
    predictor: "Predictor | None",
    minutes: float | None,
    device: str,
    reporter: "TerminalReporter",
) -> "OutOfFoldPredictions":
    """Return out-of-fold predictions of a probe on a bundle's or a backbone's features, or else of new models.

    New models are also trained if `minutes` is given.
    """
    from dataclasses import replace

    from megavit.data.dataset import read_samples
    from megavit.data_check.probe import predict_out_of_fold
    from megavit.runtime.device import pick_device
    from megavit.training.backbone_engine import find_backbone_engine
    from megavit.training.cross_val_predict import cross_val_predict
    from megavit.weights.bundle.bundle import SAMPLES

    def show(done: int, total: int) -> None:
        reporter.progress("embedding images", done, total)

    if predictor is not None:
        return predict_out_of_fold(predictor.engine, images, read_samples(predictor.folder / SAMPLES), show)
    found = None if minutes else find_backbone_engine(images, pick_device(device), reporter)
    if found is None:
        return cross_val_predict(images, minutes or DEFAULT_MINUTES, reporter, device)
    backbone, engine = found
    predictions = predict_out_of_fold(engine, images, progress=show)
    return replace(predictions, model=f"a linear probe on the embeddings of {backbone.name}")
