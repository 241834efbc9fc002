"""How good a model stays when pictures are noisy, blurred, dark, covered or compressed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import ImageDataset, Images
from megavit.data.loader.loader import batches_of, in_turn
from megavit.data.scan import Progress
from megavit.data.targets import targets_of
from megavit.evaluate.inference import check_channels, num_decode_workers
from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_images
from megavit.evaluate.metrics.dispatch import METRIC_NAMES, PrimaryMetric, make_primary_metric
from megavit.evaluate.robustness.corruptions import COLOR_ONLY, CORRUPTIONS, SEVERITIES
from megavit.predict.predictor import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_IMAGES = 1000
"""Enough for a mean over all corruptions within a point or two, and each image is answered for some seventy times."""


@dataclass(frozen=True)
class CorruptionResult:
    """One corruption.

    Attributes:
        name: in `CORRUPTIONS`.
        strengths: the metric at strengths 1 to 5, each with its 95% interval.
        mean: over these; its interval is over the images, each with its answers at every strength.
    """

    name: str
    strengths: tuple[Interval, ...]
    mean: Interval


@dataclass(frozen=True)
class Robustness:
    """The metric that the target is judged by, under corruptions.

    Attributes:
        metric: accuracy, mean average precision or mean absolute error.
        images: measured on.
        of: how many there were, from which they were taken, spread over the classes.
        clean: on the same images as they are.
        corruptions: in the order of `CORRUPTIONS`.
        mean: over all corruptions and strengths alike, interval over the images.
    """

    metric: str
    images: int
    of: int
    clean: Interval
    corruptions: tuple[CorruptionResult, ...]
    mean: Interval

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def compute_robustness(
    predictor: Predictor, images: LabeledImages, samples: Sequence[Sample], batch_size: int, progress: Progress
) -> Robustness | None:
    """Pictures are changed at the model's size, before they are normalized, each by its own random numbers.

    These follow from the image's bytes and the corruption's name, so that each run, and each model of the same size,
    sees the same pictures. Color alone is left out where there is none.

    Args:
        samples: with the predictor's indices of classes; at most `MAX_IMAGES` of them are measured.
        progress: told the pictures answered for.

    Returns:
        None where no image of these has a label, so that there is nothing to measure.

    Raises:
        DataError: as `megavit.evaluate.inference.run_inference`.
    """
    preprocessing = predictor.info.preprocessing
    check_channels(images, samples, preprocessing.channels)
    chosen = stratified_sample(samples, MAX_IMAGES)
    colored = preprocessing.channels == 3 and any(sample.channels != 1 for sample in chosen)
    names = [name for name in CORRUPTIONS if colored or name not in COLOR_ONLY]
    conditions = [("", 0), *((name, strength) for name in names for strength in SEVERITIES)]
    found: list[list[Tensor]] = [[] for _ in conditions]
    order = in_turn(len(chosen), batch_size)
    batches = batches_of(ImageDataset(images, chosen, preprocessing), order, num_decode_workers(images, len(chosen)))
    total, done = len(chosen) * len(conditions), 0
    for places, batch in zip(order, batches, strict=True):
        digests = [chosen[place].digest for place in places]
        answered = predictor.outputs(_corrupted(batch, digests, conditions))
        for column, answers in zip(found, answered, strict=True):
            column.append(answers)
            done += len(answers)
            progress(done, total)
    targets = targets_of(chosen, predictor.target, len(predictor.labels))
    metrics = [make_primary_metric(torch.cat(column), targets, predictor.target) for column in found]
    return _summarized(names, metrics, len(samples))


def stratified_sample(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many of the samples: of each class, label set or range of scores the same share."""
    if len(samples) <= most:
        return list(samples)
    # Identical within a class but for their bytes, whose order is as good as drawn.
    ranked = sorted(samples, key=lambda sample: (sample.target, sample.digest, sample.name))
    return [ranked[place * len(ranked) // most] for place in range(most)]


def corrupt_image(picture: Tensor, name: str, strength: int, digest: str) -> Tensor:
    """uint8 (C, H, W) changed by the corruption of that name; the same for the same digest.

    Floats in [0, 1], of a preprocessing in float32, are rounded to whole levels first.
    """
    if picture.is_floating_point():
        picture = (picture * 255).round().clamp(0, 255).to(torch.uint8)
    seed = int.from_bytes(blake2b(f"{name}\0{digest}".encode(), digest_size=8).digest(), "big") >> 1
    return CORRUPTIONS[name](picture, strength, torch.Generator().manual_seed(seed))


def _corrupted(batch: Images, digests: Sequence[str], conditions: Sequence[tuple[str, int]]) -> Iterator[Images]:
    """The batch under each condition; strength 0 is the batch as it is."""
    for name, strength in conditions:
        if not strength:
            yield batch
            continue
        changed = [
            corrupt_image(picture, name, strength, digest) for picture, digest in zip(batch, digests, strict=True)
        ]
        yield changed if isinstance(batch, list) else torch.stack(changed)


def _summarized(names: Sequence[str], metrics: Sequence[PrimaryMetric], of: int) -> Robustness | None:
    clean, *rest = metrics
    width = len(SEVERITIES)

    def statistic(drawn: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Every condition, then the mean of each corruption, then of all."""
        each = np.stack([metric.of(drawn) for metric in rest], axis=1)
        means = each.reshape(len(each), len(names), width).mean(axis=2)
        return np.column_stack([clean.of(drawn), each, means, means.mean(axis=1)])

    found = bootstrap_images(statistic, clean.images, work=sum(metric.work for metric in metrics))
    known = [interval for interval in found if interval is not None]
    if len(known) < len(found):
        return None
    before, *between, mean = known
    each, means = between[: len(rest)], between[len(rest) :]
    if clean.right is not None:  # an accuracy of 100% has an interval too
        before, *each = (exact for metric in metrics if (exact := metric.interval()) is not None)
    return Robustness(
        metric=METRIC_NAMES[clean.kind],
        images=clean.images,
        of=of,
        clean=before,
        corruptions=tuple(
            CorruptionResult(name, tuple(each[place * width : (place + 1) * width]), means[place])
            for place, name in enumerate(names)
        ),
        mean=mean,
    )
