"""Read the folders of classes that are added to a bundle, and leave out what it has already."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from megavit.config.names import canonical, find_look_alikes, show_code_points
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample, SampleRow, sample_row
from megavit.data.load import load_class_folder
from megavit.errors import ConfigError, DataError
from megavit.training.incremental.run_images import ImagePart
from megavit.training.progress import Reporter

MIN_SHARE = 0.1
"""Smallest share of new images for validation, and for test, whatever the shares of the run."""


@dataclass(frozen=True)
class NewImages:
    """The images of added folders.

    Attributes:
        labels: names of all classes, the bundle's own first.
        parts: the images of each folder.
        rows: their rows for `samples.csv`.
        notes: sentences on images that were left out.
    """

    labels: tuple[str, ...]
    parts: list[ImagePart]
    rows: list[SampleRow]
    notes: list[str]

    @property
    def with_images(self) -> list[int]:
        """The indices of the classes that these images are of."""
        return sorted({sample.label for part in self.parts for sample in part.samples})


def read_new_images(
    folders: Sequence[Path], labels: Sequence[str], known: Sequence[SampleRow], recipe: DataRecipe, reporter: Reporter
) -> NewImages:
    """Return the images of the folders, each of which is a class that has its name.

    Images that the bundle lists already are left out, but those of a class that was removed from it go into the split
    in which they were before.

    Args:
        labels: names of the bundle's classes.
        known: rows of the bundle's `samples.csv`.
        recipe: settings with which the bundle's data was read, of which the shares for validation and test are used.

    Raises:
        DataError: if a folder has no new image, or its name is hard to distinguish from that of another class.
    """
    if not folders:
        raise ConfigError("no folder was given: pass the folder of each class to add, which is named after it")
    recipe = replace(recipe, val=max(recipe.val, MIN_SHARE), test=max(recipe.test, MIN_SHARE))
    listed = {row.digest: row for row in known}
    found = NewImages(tuple(labels), [], [], [])
    for folder in folders:
        images = load_class_folder(folder, recipe, partial(reporter.progress, "checking images"))
        (name,) = images.classes
        own = next((label for label in found.labels if canonical(label) == name), None)
        if own is None:
            _check_name(name, found.labels)
            found = replace(found, labels=(*found.labels, name))
        is_removed = own is None and any(canonical(row.target) == name for row in known)
        chosen = _choose(images, listed, is_removed=is_removed)
        if not chosen.samples:
            raise DataError(
                f"{str(folder)!r} has no image that can be added: {'; '.join(chosen.notes)}. Pass other images"
            )
        label = found.labels.index(own or name)
        samples = tuple(replace(sample, target=label) for sample in chosen.samples)
        rows = [sample_row(sample, found.labels) for sample in samples if sample.digest not in listed]
        listed |= {row.digest: row for row in rows}
        found.parts.append(ImagePart(images, samples))
        found.rows.extend(rows)
        found.notes.extend(f"{str(folder)!r}: {note}" for note in chosen.notes)
    in_train = {sample.label for part in found.parts for sample in part.samples if sample.split == "train"}
    for label in range(len(labels), len(found.labels)):
        if label not in in_train:
            raise DataError(f"the class {found.labels[label]!r} has no image for training: put some into its folder")
    return found


def _check_name(name: str, labels: Sequence[str]) -> None:
    group = next((group for group in find_look_alikes([*labels, name]) if name in group), None)
    if group is not None:
        raise DataError(
            f"the new class is hard to distinguish from another by name, {show_code_points(group)}: rename its folder, "
            "to the very same name if the class is the same"
        )


class _Chosen(NamedTuple):
    samples: list[Sample]
    notes: list[str]


def _choose(images: LabeledImages, listed: dict[str, SampleRow], *, is_removed: bool) -> _Chosen:
    """Return the images that are not listed, and notes on the others.

    Args:
        is_removed: whether the bundle had this class before, whose images go into their former splits.
    """
    (name,) = images.classes
    chosen = _Chosen([], [f"{count:,} skipped, {reason}" for reason, count in images.skipped_by_reason().items()])
    left_out: Counter[str] = Counter()
    for sample in images.samples:
        row = listed.get(sample.digest)
        if row is None:
            chosen.samples.append(sample)
        elif canonical(row.target) != name:
            left_out[f"the same files as images of the class {row.target!r}"] += 1
        elif is_removed:
            chosen.samples.append(replace(sample, split=row.split))
        else:
            left_out["already images of the bundle"] += 1
    chosen.notes.extend(f"{count:,} left out, {reason}" for reason, count in left_out.items())
    return chosen
