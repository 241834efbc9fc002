"""`megavit check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from megavit.cli.options import Device, Json, LabeledData
from megavit.errors import ConfigError

if TYPE_CHECKING:
    from megavit.check.label_issues import OutOfFoldPredictions
    from megavit.cli.render.training import TerminalWatch
    from megavit.data.dataset import LabeledImages
    from megavit.predict.predictor import Predictor

MINUTES = 3.0


def check(
    data: LabeledData,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="New folder for check.csv and an HTML page with the images.")] = None,
    bundle: Annotated[
        Path | None,
        Parameter(help="Find label errors with the features of this bundle or hf-hub:USER/NAME, without training."),
    ] = None,
    minutes: Annotated[
        float | None, Parameter(help="Time budget in minutes for the models that find label errors. Default: 3.")
    ] = None,
    skip_labels: Annotated[bool, Parameter(help="Do not look for label errors.")] = False,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Check a data set for broken files, duplicates, label errors and more.

    Finds files that cannot be read, exact and near duplicates (most serious
    between train and test), likely label errors, blank images, classes with
    few images, and more, the most serious first. Label errors are found with
    models trained on the other images. The exit code is 1 if anything serious
    was found.

    For example: megavit check photos --out checked
    """
    if bundle is not None and minutes is not None:
        raise ConfigError("--minutes is for the models that are trained where there is no --bundle; leave it out")
    if skip_labels and (bundle is not None or minutes is not None):
        raise ConfigError("--skip-labels and --bundle or --minutes contradict each other; leave one of them out")

    from megavit.check.check import run_checks
    from megavit.check.write_report import check_output_folder, write_report
    from megavit.cli.console import results
    from megavit.cli.render.findings import print_checked, show_checked
    from megavit.cli.render.training import TerminalWatch
    from megavit.config.recipe import DataRecipe
    from megavit.data.load import load_data
    from megavit.predict.predictor import load
    from megavit.runtime.device import pick_device

    pick_device(device)
    predictor = None if bundle is None else load(bundle, device=device)
    if out is not None:
        check_output_folder(out, data)
    with TerminalWatch() as watch:
        # As megavit train reads them, so that what it would draw for validation and test is looked at too.
        images = load_data(
            data, DataRecipe(), lambda done, total: watch.progress("checking images", done, total), verify="all"
        )
        reason = "--skip-labels was given" if skip_labels else not_judged(images)
        answers = None if reason else answers_for(images, predictor, minutes or MINUTES, device, watch)
        checked = run_checks(images, answers, watch.progress)
    if out is not None:
        write_report(out, checked, reason)
    if json:
        print_checked(checked, reason, out)
    else:
        show_checked(checked, reason)
        if out is not None:
            results.print(f"{out / 'check.html'} shows them with pictures; {out / 'check.csv'} lists them")
    return 1 if checked.serious else 0


def not_judged(images: "LabeledImages") -> str:
    """Why the labels cannot be judged; "" where they can."""
    from megavit.check.probe import MIN_IMAGES

    if images.target != "classification":
        what = "several labels" if images.target == "multilabel" else "a score"
        return f"the images have {what} each, and only a single class can be judged"
    if len(images.samples) < MIN_IMAGES:
        return f"{len(images.samples)} images are too few to learn from; it takes {MIN_IMAGES}"
    return ""


def answers_for(
    images: "LabeledImages", predictor: "Predictor | None", minutes: float, device: str, watch: "TerminalWatch"
) -> "OutOfFoldPredictions":
    """Predictions for the images by models that have not learned from them: on a bundle's features, or trained here."""
    if predictor is None:
        from megavit.train.cross_val_predict import cross_val_predict

        return cross_val_predict(images, minutes, watch, device)
    from megavit.check.probe import predict_out_of_fold
    from megavit.data.dataset import read_samples
    from megavit.weights.bundle.bundle import SAMPLES

    known = read_samples(predictor.folder / SAMPLES)
    return predict_out_of_fold(
        predictor, images, known, lambda done, total: watch.progress("embedding images", done, total)
    )
