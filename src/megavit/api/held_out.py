"""Read the images that a bundle is measured on: those that it was not trained on."""

from collections.abc import Sequence
from functools import partial

from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, read_samples
from megavit.data.load import DataSource, load_data
from megavit.evaluation.inference import SplitSelection, select_split
from megavit.predict.predictor import Predictor
from megavit.training.progress import Reporter
from megavit.weights.bundle.bundle import SAMPLES


def read_held_out(
    predictors: Sequence[Predictor], data: DataSource, reporter: Reporter
) -> tuple[LabeledImages, SplitSelection]:
    """Return all images of `data`, and those of its test split that none of the predictors was trained on.

    The classes are those of the first predictor.

    Raises:
        DataError: if the images cannot be read, do not fit the first predictor, or none is left.
    """
    first = predictors[0]
    progress = partial(reporter.progress, "checking images")
    images = load_data(data, DataRecipe(val=0, test=0), progress, known_classes=first.labels)
    known = [row for predictor in predictors for row in read_samples(predictor.folder / SAMPLES)]
    return images, select_split(images, first.labels, known, first.target)
