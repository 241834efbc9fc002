"""Whether a bundle may multiply 8-bit integers: what it costs, on images that the model has not learned from."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import ImageDataset
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.scan import Progress
from megavit.data.targets import target_tensor
from megavit.engine.engine import Engine
from megavit.errors import DataError
from megavit.evaluate.inference import SplitSelection, check_channels, num_decode_workers
from megavit.evaluate.metrics.bootstrap import Interval
from megavit.evaluate.metrics.significance import bootstrap_accuracy_difference
from megavit.predict.predictor import Predictor
from megavit.weights.bundle.bundle import BundleInfo

# Images that the bounds are measured on.
CALIBRATION = 128
BATCH = 64


@dataclass(frozen=True)
class Cost:
    """What 8-bit integers cost.

    Attributes:
        images: measured on.
        float32, int8: accuracy of each.
        change: of the accuracy, paired by image.
        faster: so many times as fast, over all these images.
    """

    images: int
    float32: float
    int8: float
    change: Interval
    faster: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_int8(
    predictor: Predictor, images: LabeledImages, choice: SplitSelection, progress: Progress
) -> tuple[list[float], Cost]:
    """The bounds of the layers' inputs, and what they cost on the chosen images.

    The bounds are measured on images that are not among the chosen ones, such as those it learned from, or where there
    are none on the first of the chosen ones, whose classes are not looked at.

    Args:
        predictor: of one class an image, on a CPU, in float32.

    Raises:
        DataError: for another kind of target, and as `megavit.evaluate.inference.evaluate`.
    """
    from megavit.engine.int8 import calibrate

    if predictor.target != "classification":
        raise DataError(f"int8 is measured by accuracy, and this bundle answers with {predictor.target}")
    preprocessing = predictor.info.preprocessing
    check_channels(images, choice.samples, preprocessing.channels)
    chosen = {sample.name for sample in choice.samples}
    others = [sample for sample in images.samples if sample.name not in chosen] or list(choice.samples)
    every = max(1, len(others) // CALIBRATION)
    bounds = calibrate(predictor.model, preprocessing, _tensors(predictor, images, others[::every][:CALIBRATION]))
    plain, rounded = Engine(predictor.model, preprocessing), Engine(predictor.model, preprocessing, "int8", bounds)
    truth = target_tensor(choice.samples, "classification", len(predictor.labels))
    right: dict[str, list[Tensor]] = {"float32": [], "int8": []}
    seconds = dict.fromkeys(right, 0.0)
    done = 0
    for batch in _tensors(predictor, images, choice.samples):
        if not done:
            plain.settle(batch)
            rounded(batch)
        for name, engine in (("float32", plain), ("int8", rounded)):
            began = perf_counter()
            found = engine(batch).logits
            seconds[name] += perf_counter() - began
            right[name].append(found.argmax(dim=1) == truth[done : done + len(batch)])
        done += len(batch)
        progress(done, len(truth))
    before, after = (torch.cat(right[name]) for name in ("float32", "int8"))
    return bounds, Cost(
        images=len(truth),
        float32=before.double().mean().item(),
        int8=after.double().mean().item(),
        change=bootstrap_accuracy_difference(before, after),
        faster=seconds["float32"] / seconds["int8"],
    )


def with_int8(info: BundleInfo, bounds: Sequence[float], cost: Cost) -> BundleInfo:
    """What the bundle says, and that it may multiply 8-bit integers."""
    found = {"bounds": list(bounds), "measured": cost.to_dict()}
    return replace(info, int8=found)


def _tensors(predictor: Predictor, images: LabeledImages, samples: Sequence[Sample]) -> Iterator[Tensor]:
    """The samples in batches; where images keep their aspect, one at a time."""
    pictures = ImageDataset(images, samples, predictor.info.preprocessing)
    size = 1 if predictor.info.preprocessing.keep_aspect else BATCH
    for batch in iter_batches(
        pictures, sequential_batches(len(pictures), size), num_decode_workers(images, len(pictures))
    ):
        yield batch[0][None] if isinstance(batch, list) else batch
