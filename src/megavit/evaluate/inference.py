"""A bundle against labeled images that it has not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from megavit.config.names import index_by_name, look_alikes, told_apart
from megavit.config.target import TargetKind
from megavit.data.dataset import COLUMN, LabeledImages, Row, Sample, TargetValue
from megavit.data.image_dataset import ImageDataset, fits
from megavit.data.loader.loader import batches_of, in_turn
from megavit.data.scan import MANY, Progress
from megavit.data.workers import MOST_WORKERS, processors
from megavit.engine.engine import ModelOutput
from megavit.errors import DataError
from megavit.predict.predictor import Predictor


@dataclass(frozen=True)
class SplitSelection:
    """The images to measure on.

    Attributes:
        samples: of them, with the bundle's indices of classes and labels.
        learned: how many were left out because the model was trained or chosen by them.
        split: of the data that they are from; "all" where it has no test or validation split.
    """

    samples: tuple[Sample, ...]
    learned: int
    split: str


def select_split(
    images: LabeledImages, labels: Sequence[str], known: Sequence[Row], target: TargetKind = "classification"
) -> SplitSelection:
    """The data's own test split, else its validation split, else all of it, without what the model has learned from.

    An image is known by its file's bytes, so that neither a new name nor another folder makes it new.

    Args:
        labels: the bundle's classes or labels.
        known: the rows of the bundle's `samples.csv`; of several bundles that are compared, of each.
        target: the bundle's.

    Raises:
        DataError: for another kind of target, a class that the bundle does not know, or when nothing is left.
    """
    if images.target != target:
        have = {"classification": "one class an image", "multilabel": "multilabel", "regression": "a score"}
        raise DataError(
            f"{images.source} gives {have[images.target]}, and the bundle answers with {have[target]}; "
            f"give a table with the column {COLUMN[target]}"
            + (", or class folders" if target == "classification" else "")
        )
    number = index_by_name(labels)
    unknown = [name for name in images.classes if name not in number]
    if unknown:
        raise DataError(
            f"{images.source} has classes that the bundle does not know: {', '.join(map(repr, unknown[:10]))}; "
            f"it knows {', '.join(map(repr, labels[:10]))}{' …' if len(labels) > 10 else ''}{_alike(unknown, labels)}"
        )
    split, offered = next(
        ((split, images.of(split)) for split in ("test", "val") if images.of(split)), ("all", images.samples)
    )
    learned_from = {row.digest for row in known if row.split != "test"}
    fresh = [sample for sample in offered if sample.digest not in learned_from]
    if not fresh:
        raise DataError(
            f"what is to be measured was trained or chosen by every one of these {len(offered)} images of "
            f"{images.source}; how good it is shows only on images that it has not seen"
        )
    renumbered = [number[name] for name in images.classes]
    samples = tuple(replace(sample, target=_renumber(sample.target, renumbered)) for sample in fresh)
    return SplitSelection(samples, len(offered) - len(fresh), split)


def run_inference(
    predictor: Predictor, images: LabeledImages, samples: Sequence[Sample], batch_size: int, progress: Progress
) -> ModelOutput:
    """What the model sees in the samples, in order.

    Raises:
        DataError: for images of other channels than the model takes, or that cannot be read any more.
    """
    preprocessing = predictor.info.preprocessing
    check_channels(images, samples, preprocessing.channels)
    pictures = ImageDataset(images, samples, preprocessing)
    batches = batches_of(pictures, in_turn(len(pictures), batch_size), num_decode_workers(images, len(pictures)))
    found: list[ModelOutput] = []
    for batch in batches:
        found.append(predictor.forward(batch))
        progress(sum(len(one.logits) for one in found), len(pictures))
    return ModelOutput(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _alike(unknown: Sequence[str], labels: Sequence[str]) -> str:
    """Says which unknown name a person would take for one that the bundle knows."""
    known = set(labels)
    alike = (names for names in look_alikes([*labels, *unknown]) if set(names) - known and set(names) & known)
    group = next(alike, None)
    return "" if group is None else f". Are they one: {told_apart(group)}?"


def _renumber(target: TargetValue, numbers: Sequence[int]) -> TargetValue:
    match target:
        case int() as label:
            return numbers[label]
        case tuple() as labels:
            return tuple(sorted(numbers[label] for label in labels))
        case score:
            return score


def check_channels(images: LabeledImages, samples: Sequence[Sample], channels: int) -> None:
    """Raise a DataError for the first image that cannot be made into the model's channels."""
    wrong = next((sample for sample in samples if not fits(sample.channels, channels)), None)
    if wrong is not None:
        raise DataError(
            f"{wrong.name!r} of {images.source!r} has {wrong.channels} channels, "
            f"and the bundle takes images of {channels}"
        )


def num_decode_workers(images: LabeledImages, count: int) -> int:
    """Processes that decode; none where starting them would take longer."""
    return 0 if images.memory or count < MANY else min(processors(), MOST_WORKERS)
