"""Find the images that a bundle was trained, selected and tested on, wherever they are now."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from megavit.config.names import canonical, index_by_name
from megavit.config.recipe import DataRecipe
from megavit.config.serialization import from_dict
from megavit.data.dataset import LabeledImages, Sample, SampleRow, read_samples, sample_row
from megavit.data.load import DataSource, is_reachable, load_class_folder, load_data
from megavit.data.sources.records.memory import IN_MEMORY
from megavit.errors import BundleError, DataError
from megavit.predict.predictor import Predictor
from megavit.training.progress import Reporter
from megavit.training.run_dir import PLAN, read_plan
from megavit.weights.bundle.bundle import SAMPLES

ADDED, LOCATION = "added", "location"
"""Entries of a bundle's `data`: the folders of images that were added to it, by class, and where the others are."""


@dataclass(frozen=True)
class LocatedImages:
    """Images of one source that a bundle lists, with the row of its `samples.csv` for each."""

    images: LabeledImages
    samples: tuple[Sample, ...]
    rows: tuple[SampleRow, ...]


@dataclass(frozen=True)
class ImagePart:
    """Images of one source, with the class indices of a bundle and the splits in which it uses them."""

    images: LabeledImages
    samples: tuple[Sample, ...]


def locate_run_images(predictor: Predictor, data: DataSource | None, reporter: Reporter) -> list[LocatedImages]:
    """Return the images that a bundle lists, recognized by their content, among which others may lie.

    Args:
        data: where the images are; None for where they were in training. For a bundle that lists no images, as a
            converted one, these are its images.

    Raises:
        BundleError: if the bundle does not say where its images are.
        DataError: if images cannot be read, or none of them is there.
    """
    listed = read_samples(predictor.folder / SAMPLES)
    recipe = read_data_recipe(predictor)
    source = _find_source(predictor) if data is None else data
    progress = partial(reporter.progress, "checking images")
    images = load_data(source, recipe, progress, known_classes=predictor.labels)
    if not listed:
        rows = tuple(sample_row(sample, images.classes) for sample in images.samples)
        return [LocatedImages(images, images.samples, rows)]
    wanted = _Wanted(listed)
    located = [wanted.take(images)]
    for entry in predictor.info.data.get(ADDED, []):
        folder = Path(entry["folder"])
        if wanted.missing and folder.is_dir():
            located.append(wanted.take(load_class_folder(folder, recipe, progress)))
    if wanted.missing == len(listed):
        raise DataError(
            f"none of the {len(listed):,} images of {predictor.folder} is in {images.source}: pass the folder that "
            "they have been moved to with --data"
        )
    if wanted.missing:
        reporter.say(
            f"{wanted.missing:,} of the {len(listed):,} images of the bundle are no longer there, or have changed: the "
            "others are used"
        )
    return located


class _Wanted:
    """The images that a bundle lists, of which those found are crossed off."""

    def __init__(self, rows: Sequence[SampleRow]) -> None:
        self._rows: dict[tuple[str, str], list[SampleRow]] = defaultdict(list)
        for row in reversed(rows):
            self._rows[_key(row)].append(row)

    @property
    def missing(self) -> int:
        """The number of listed images that were not found."""
        return sum(map(len, self._rows.values()))

    def take(self, images: LabeledImages) -> LocatedImages:
        """Return those of the images that are listed, each as often as it is."""
        found = [
            (sample, rows.pop())
            for sample in images.samples
            if (rows := self._rows.get(_key(sample_row(sample, images.classes))))
        ]
        return LocatedImages(images, tuple(sample for sample, _ in found), tuple(row for _, row in found))


def _key(row: SampleRow) -> tuple[str, str]:
    return row.digest, canonical(row.target)


def read_run_images(predictor: Predictor, data: DataSource | None, reporter: Reporter) -> list[ImagePart]:
    """Return the images of the classes of a bundle, each in the split that its `samples.csv` has it in.

    For `data` and errors, see `locate_run_images`.

    Raises:
        DataError: also if a class has no images to train on, or there are none to test on.
    """
    index = index_by_name(predictor.labels)
    parts: list[ImagePart] = []
    for located in locate_run_images(predictor, data, reporter):
        if located.images.target != "classification":
            raise DataError(f"{located.images.source} has no single class for each image, and the bundle predicts one")
        # A class that was removed from the bundle is still listed.
        samples = (
            replace(sample, target=index[name], split=row.split)
            for sample, row in zip(located.samples, located.rows, strict=True)
            if (name := located.images.classes[sample.label]) in index
        )
        parts.append(ImagePart(located.images, tuple(samples)))
    return _check_complete(predictor, parts, data)


def read_data_recipe(predictor: Predictor) -> DataRecipe:
    """Return the settings with which the bundle's data was read."""
    recorded: dict[str, Any] = predictor.info.recipe.get("data", {})
    return from_dict(DataRecipe, recorded, f"the recipe of {predictor.folder}") if recorded else DataRecipe()


def _find_source(predictor: Predictor) -> str:
    """Return the place of the data that a bundle was trained on, as its run or a change of its classes recorded it."""
    run_dir, recorded = predictor.folder.parent, predictor.info.data
    source = recorded.get(LOCATION, recorded.get("source"))
    if LOCATION not in recorded and (run_dir / PLAN).is_file():
        source = read_plan(run_dir).source
    advice = "pass its images with --data DATA, as for megavit train"
    if "division" not in recorded or not isinstance(source, str):
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
