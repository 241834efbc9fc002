"""Find the images that a bundle was trained, selected and tested on, wherever they are now."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from megavit.config.names import index_by_name
from megavit.config.recipe import DataRecipe
from megavit.config.serialization import from_dict
from megavit.data.dataset import LabeledImages, Sample, SampleRow, read_samples
from megavit.data.load import DataSource, is_reachable, load_class_folder, load_data
from megavit.data.sources.records.memory import IN_MEMORY
from megavit.errors import BundleError, DataError
from megavit.predict.predictor import Predictor
from megavit.training.progress import Reporter
from megavit.training.run_dir import PLAN, read_plan
from megavit.weights.bundle.bundle import SAMPLES

ADDED = "added"
"""Entry of a bundle's `data` that lists the folders of images that were added to it, by class."""


@dataclass(frozen=True)
class ImagePart:
    """Images of one source, with the class indices of a bundle and the splits in which it uses them."""

    images: LabeledImages
    samples: tuple[Sample, ...]


def read_run_images(predictor: Predictor, data: DataSource | None, reporter: Reporter) -> list[ImagePart]:
    """Return the images of a bundle's classes, each in the split that the bundle's `samples.csv` has it in.

    Images are recognized by their content, so that they may have been moved, and others may lie beside them.

    Args:
        data: where the images are; None for where they were in training. For a bundle that lists no images, as a
            converted one, these are its images, with their own splits.

    Raises:
        BundleError: if the bundle does not say where its images are.
        DataError: if images cannot be read, or a class has none to train on or none to test on.
    """
    rows = read_samples(predictor.folder / SAMPLES)
    recipe = read_data_recipe(predictor)
    source = _find_source(predictor) if data is None else data
    progress = partial(reporter.progress, "checking images")
    images = load_data(source, recipe, progress, known_classes=predictor.labels)
    if images.target != "classification":
        raise DataError(f"{images.source} has no single class for each image, and the bundle predicts one")
    if not rows:
        return _check_complete(predictor, [_as_part(predictor, images)], data)
    wanted = _Wanted(predictor.labels, rows)
    parts = [wanted.take(images)]
    for entry in predictor.info.data.get(ADDED, []):
        folder = Path(entry["folder"])
        if wanted.missing and folder.is_dir():
            parts.append(wanted.take(load_class_folder(folder, recipe, progress)))
    if wanted.missing:
        reporter.say(
            f"{wanted.missing:,} of the {wanted.total:,} images of the bundle are no longer there, or have changed: "
            "the others are used"
        )
    return _check_complete(predictor, parts, data)


class _Wanted:
    """The images that a bundle lists, of which those found are crossed off."""

    def __init__(self, labels: Sequence[str], rows: Sequence[SampleRow]) -> None:
        self.index = index_by_name(labels)
        # A class that was removed from the bundle is still listed.
        known = [row for row in rows if row.target in self.index]
        self.total = len(known)
        self._splits: dict[tuple[str, int], list[str]] = defaultdict(list)
        for row in reversed(known):
            self._splits[row.digest, self.index[row.target]].append(row.split)

    @property
    def missing(self) -> int:
        """The number of listed images that were not found."""
        return sum(map(len, self._splits.values()))

    def take(self, images: LabeledImages) -> ImagePart:
        """Return those of the images that are listed, each as often as it is."""
        samples: list[Sample] = []
        for sample in images.samples:
            label = self.index.get(images.classes[sample.label])
            if label is not None and (splits := self._splits[sample.digest, label]):
                samples.append(replace(sample, target=label, split=splits.pop()))
        return ImagePart(images, tuple(samples))


def _as_part(predictor: Predictor, images: LabeledImages) -> ImagePart:
    index = index_by_name(predictor.labels)
    known = [sample for sample in images.samples if images.classes[sample.label] in index]
    return ImagePart(images, tuple(replace(sample, target=index[images.classes[sample.label]]) for sample in known))


def read_data_recipe(predictor: Predictor) -> DataRecipe:
    """Return the settings with which the bundle's data was read."""
    recorded: dict[str, Any] = predictor.info.recipe.get("data", {})
    return from_dict(DataRecipe, recorded, f"the recipe of {predictor.folder}") if recorded else DataRecipe()


def _find_source(predictor: Predictor) -> str:
    """Return the place of the data that a bundle was trained on: that of its run, if it is in one, is absolute."""
    run_dir = predictor.folder.parent
    source = read_plan(run_dir).source if (run_dir / PLAN).is_file() else predictor.info.data.get("source")
    advice = "pass its images with --data DATA, as for megavit train"
    if "division" not in predictor.info.data or not isinstance(source, str):
        raise BundleError(
            f"{predictor.folder} was not trained by megavit, so it does not say what its images are: {advice}"
        )
    if source == IN_MEMORY:
        raise BundleError(f"{predictor.folder} was trained on images in memory, which are gone: {advice}")
    if not is_reachable(source):
        raise BundleError(f"the images of {predictor.folder} are no longer at {source}: {advice}")
    return source


def _check_complete(predictor: Predictor, parts: list[ImagePart], data: DataSource | None) -> list[ImagePart]:
    """Return the parts, or raise a DataError for a class without images to train on, or none at all to test on."""
    counts = Counter((sample.split, sample.label) for part in parts for sample in part.samples)
    lacking = [name for label, name in enumerate(predictor.labels) if not counts["train", label]]
    splits = {split for split, _ in counts}
    if not lacking and {"val", "test"} <= splits:
        return parts
    what = f"training images of {', '.join(map(repr, lacking[:5]))}" if lacking else "validation or test images"
    where = parts[0].images.source
    hint = "pass the folder that they have been moved to" if data is None else "pass all of them"
    raise DataError(
        f"{where} no longer has the {what} that {predictor.folder} was made with, and classes can only be compared on "
        f"images of all of them: {hint} with --data"
    )
