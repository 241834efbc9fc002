"""Add classes to a bundle, or remove them, from Python."""

import os
from collections.abc import Sequence
from pathlib import Path

from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.data.load import DataSource
from megavit.predict.predictor import load
from megavit.training.incremental import add, remove
from megavit.training.incremental.result import ClassAddition, ClassRemoval


def add_classes(
    bundle: str | os.PathLike[str],
    folders: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    data: DataSource | None = None,
    device: str = "auto",
    reporter: ReporterChoice = "auto",
) -> ClassAddition:
    """Add new classes, or more images of those that it has, to a trained bundle in seconds, and write it to `out`.

    The model's features stay as they are, and so do the weights of all other classes: the head gets a row for each new
    class. Calibration, prediction sets and out-of-distribution mark are fitted anew, and the metrics measured anew, on
    the bundle's own images and on new ones that are held out. The result says if a class cannot be told from the others
    in this way, so that a training with all images is due.

    Args:
        bundle: bundle or `Run`, as for `megavit.load`.
        folders: a folder of images for each class, which is named after it. If it has subfolders named train, val and
            test, they are the splits; otherwise images are drawn for validation and test.
        out: new folder for the bundle, or that of `bundle` to replace it.
        data: the images that the bundle was trained on, as for `megavit.train`; None to find them where they were.
        device: as for `megavit.load`.
        reporter: as for `megavit.train`.

    Raises:
        BundleError: if the bundle does not predict one class for each image, or does not say where its images are.
        ConfigError, DataError: if there is nothing to add, or the bundle's images cannot be used.
        OutputError: if `out` is another folder that exists, or cannot be written.
    """
    predictor = load(bundle, device=device)
    with open_reporter(reporter) as shown:
        return add.add_classes(predictor, [Path(folder) for folder in folders], Path(out), data, shown)


def remove_classes(
    bundle: str | os.PathLike[str],
    classes: Sequence[str],
    *,
    out: str | os.PathLike[str],
    data: DataSource | None = None,
    device: str = "auto",
    reporter: ReporterChoice = "auto",
) -> ClassRemoval:
    """Remove classes from a trained bundle, at least two of which remain, and write it to `out`.

    The weights of the others stay as they are. Calibration and metrics are renewed as in `add_classes`.

    Args:
        bundle, out, data, device, reporter: as for `add_classes`.
        classes: names of the classes to remove.

    Raises:
        BundleError, DataError, OutputError: as for `add_classes`.
        ConfigError: if the bundle does not have one of the classes, or too few would remain.
    """
    predictor = load(bundle, device=device)
    with open_reporter(reporter) as shown:
        return remove.remove_classes(predictor, classes, Path(out), data, shown)
