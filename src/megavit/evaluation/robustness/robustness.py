"""Measure robustness: the primary metric under common corruptions such as noise, blur and compression."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import ImageDataset, Images
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.scan import Progress
from megavit.data.targets import target_tensor
from megavit.evaluation.inference import check_channels, num_decode_workers
from megavit.evaluation.metrics.bootstrap import Interval, bootstrap_images
from megavit.evaluation.metrics.dispatch import METRIC_NAMES, PrimaryMetric, make_primary_metric
from megavit.evaluation.robustness.corruptions import COLOR_ONLY, CORRUPTIONS, SEVERITIES
from megavit.predict.predictor import Predictor

MAX_IMAGES = 1000
"""Maximum number of images; enough for a mean within a point or two. Each takes about 90 predictions."""


@dataclass(frozen=True)
class CorruptionResult:
    """The primary metric under one of the `CORRUPTIONS`.

    Attributes:
        severities: metric at severities 1 to 5, each with its 95% interval.
        mean: mean over the severities, with its interval over the images.
    """

    name: str
    severities: tuple[Interval, ...]
    mean: Interval


@dataclass(frozen=True)
class Robustness:
    """The primary metric under all corruptions, in the order of `CORRUPTIONS`.

    Attributes:
        available: number of images from which the evaluated ones were sampled, stratified by class.
        clean: metric on the same images without corruption.
        mean: mean over all corruptions and severities, with its interval over the images.
    """

    metric: str
    images: int
    available: int
    clean: Interval
    corruptions: tuple[CorruptionResult, ...]
    mean: Interval

    def to_dict(self) -> dict[str, Any]:
        """Return the robustness as plain JSON types."""
        return asdict(self)


def compute_robustness(
    predictor: Predictor, images: LabeledImages, samples: Sequence[Sample], batch_size: int, progress: Progress
) -> Robustness | None:
    """Return the primary metric on corrupted images; None if no image has a label.

    Images are corrupted at the model's size, before normalization. The random numbers depend only on the image's bytes
    and the corruption's name, so that all models of the same size see the same images. Color corruptions are left out
    for gray images.

    Args:
        samples: samples with the predictor's class indices; at most `MAX_IMAGES` of them are evaluated.
        progress: called with the number of images predicted.

    Raises:
        DataError: like `megavit.evaluation.inference.run_inference`.
    """
    preprocessing = predictor.info.preprocessing
    check_channels(images, samples, preprocessing.channels)
    chosen = stratified_sample(samples, MAX_IMAGES)
    colored = preprocessing.channels == 3 and any(sample.channels != 1 for sample in chosen)
    names = [name for name in CORRUPTIONS if colored or name not in COLOR_ONLY]
    conditions = [("", 0), *((name, severity) for name in names for severity in SEVERITIES)]
    outputs: list[list[Tensor]] = [[] for _ in conditions]
    order = sequential_batches(len(chosen), batch_size)
    batches = iter_batches(ImageDataset(images, chosen, preprocessing), order, num_decode_workers(images, len(chosen)))
    total, done = len(chosen) * len(conditions), 0
    for indices, batch in zip(order, batches, strict=True):
        digests = [chosen[i].digest for i in indices]
        predicted = predictor.outputs(_corrupt_batch(batch, digests, conditions))
        for column, batch_outputs in zip(outputs, predicted, strict=True):
            column.append(batch_outputs)
            done += len(batch_outputs)
            progress(done, total)
    targets = target_tensor(chosen, predictor.target, len(predictor.labels))
    metrics = [make_primary_metric(torch.cat(column), targets, predictor.target) for column in outputs]
    return _summarize(names, metrics, len(samples))


def stratified_sample(samples: Sequence[Sample], size: int) -> list[Sample]:
    """Return at most `size` samples, stratified by class, label set or target value."""
    if len(samples) <= size:
        return list(samples)
    # Ordering by digest is as good as random.
    ranked = sorted(samples, key=lambda sample: (sample.target, sample.digest, sample.name))
    return [ranked[i * len(ranked) // size] for i in range(size)]


def corrupt_image(image: Tensor, name: str, severity: int, digest: str) -> Tensor:
    """Return a uint8 (C, H, W) image under a named corruption, deterministic for a digest.

    Floats in [0, 1] are rounded to integer levels first.
    """
    if image.is_floating_point():
        image = (image * 255).round().clamp(0, 255).to(torch.uint8)
    seed = int.from_bytes(blake2b(f"{name}\0{digest}".encode(), digest_size=8).digest(), "big") >> 1
    return CORRUPTIONS[name](image, severity, torch.Generator().manual_seed(seed))


def _corrupt_batch(batch: Images, digests: Sequence[str], conditions: Sequence[tuple[str, int]]) -> Iterator[Images]:
    for name, severity in conditions:
        if not severity:
            yield batch
            continue
        corrupted = [corrupt_image(image, name, severity, digest) for image, digest in zip(batch, digests, strict=True)]
        yield corrupted if isinstance(batch, list) else torch.stack(corrupted)


def _summarize(names: Sequence[str], metrics: Sequence[PrimaryMetric], available: int) -> Robustness | None:
    clean, *corrupted = metrics
    width = len(SEVERITIES)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the clean metric, then every condition, then the mean of each corruption, then of all."""
        each = np.stack([metric.compute(weights) for metric in corrupted], axis=1)
        means = each.reshape(len(each), len(names), width).mean(axis=2)
        return np.column_stack([clean.compute(weights), each, means, means.mean(axis=1)])

    intervals = bootstrap_images(statistic, clean.images, work=sum(metric.work for metric in metrics))
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        return None
    clean_interval, *others, mean = known
    each, means = others[: len(corrupted)], others[len(corrupted) :]
    if clean.correct is not None:  # Wilson's interval has a width even at 100%
        clean_interval, *each = (interval for metric in metrics if (interval := metric.interval()) is not None)
    return Robustness(
        metric=METRIC_NAMES[clean.kind],
        images=clean.images,
        available=available,
        clean=clean_interval,
        corruptions=tuple(
            CorruptionResult(name, tuple(each[i * width : (i + 1) * width]), means[i]) for i, name in enumerate(names)
        ),
        mean=mean,
    )
