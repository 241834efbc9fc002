"""Calibrate a bundle for int8, and measure its accuracy on held-out images."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
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
from megavit.evaluation.inference import SplitSelection, check_channels, num_decode_workers
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.significance import bootstrap_accuracy_difference
from megavit.predict.predictor import Predictor
from megavit.runtime.processors import processor_id
from megavit.weights.bundle.info import BundleInfo

CALIBRATION_IMAGES = 128
BATCH_SIZE = 64
MAX_OOD_CHANGES = 0.05  # share of the images, or one image: that int8 finds out of distribution, or no longer


@dataclass(frozen=True)
class Int8Result:
    """The accuracies of int8 and float32, and their difference paired by image.

    Attributes:
        ood_changed: number of images that are out of distribution for one of the two only; None if that is unknown.
    """

    images: int
    float32: float
    int8: float
    change: Interval
    ood_changed: int | None = None

    @property
    def keeps_ood(self) -> bool:
        """Whether int8 finds nearly the same images out of distribution."""
        return keeps_ood(self.ood_changed, self.images)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def keeps_ood(changed: int | None, images: int) -> bool:
    """Return whether few enough of the images change between in and out of distribution, or that is unknown."""
    return changed is None or changed <= max(1, MAX_OOD_CHANGES * images)


def evaluate_int8(
    predictor: Predictor, images: LabeledImages, choice: SplitSelection, progress: Progress
) -> tuple[list[float], Int8Result]:
    """Return the int8 bounds of the layers' inputs, and the results of a float32 CPU predictor on the selection.

    The bounds are calibrated on images that are not selected, or if there are none, on the first selected ones.

    Raises:
        DataError: if the target is not classification, or the images have the wrong number of channels.
    """
    from megavit.engine.int8 import calibrate

    if predictor.target != "classification":
        raise DataError(f"int8 is verified by its accuracy, but this bundle is for {predictor.target}")
    preprocessing = predictor.info.preprocessing
    check_channels(images, choice.samples, preprocessing.channels)
    chosen = {sample.name for sample in choice.samples}
    calibration = [sample for sample in images.samples if sample.name not in chosen] or list(choice.samples)
    step = max(1, len(calibration) // CALIBRATION_IMAGES)
    bounds = calibrate(
        predictor.model, preprocessing, _tensors(predictor, images, calibration[::step][:CALIBRATION_IMAGES])
    )
    float32, int8 = Engine(predictor.model, preprocessing), Engine(predictor.model, preprocessing, "int8", bounds)
    targets = target_tensor(choice.samples, "classification", len(predictor.labels))
    ood, threshold = predictor.calibrator.ood, predictor.info.calibration.ood_threshold
    correct: dict[str, list[Tensor]] = {"float32": [], "int8": []}
    is_ood: dict[str, list[Tensor]] = {"float32": [], "int8": []}
    done = 0
    for batch in _tensors(predictor, images, choice.samples):
        if not done:
            float32.choose_runtime(batch)
        for name, engine in (("float32", float32), ("int8", int8)):
            output = engine(batch)
            correct[name].append(output.logits.argmax(dim=1) == targets[done : done + len(batch)])
            if ood is not None and threshold is not None:
                is_ood[name].append(ood.distance(output.pooled) > threshold)
        done += len(batch)
        progress(done, len(targets))
    float32_correct, int8_correct = (torch.cat(correct[name]) for name in ("float32", "int8"))
    return bounds, Int8Result(
        images=len(targets),
        float32=float32_correct.double().mean().item(),
        int8=int8_correct.double().mean().item(),
        change=bootstrap_accuracy_difference(float32_correct, int8_correct),
        ood_changed=int((torch.cat(is_ood["float32"]) != torch.cat(is_ood["int8"])).sum()) if is_ood["int8"] else None,
    )


def with_int8(
    info: BundleInfo, bounds: Sequence[float], result: Int8Result, speeds: Sequence[dict[str, Any]]
) -> BundleInfo:
    """Return a bundle's metadata with int8 bounds, their measured result, and the speeds on this processor."""
    measured = {"measured": result.to_dict(), "speeds": list(speeds), "processor": processor_id()}
    return replace(info, int8={"bounds": list(bounds)} | measured)


def _tensors(predictor: Predictor, images: LabeledImages, samples: Sequence[Sample]) -> Iterator[Tensor]:
    dataset = ImageDataset(images, samples, predictor.info.preprocessing)
    size = 1 if predictor.info.preprocessing.keep_aspect else BATCH_SIZE
    for batch in iter_batches(
        dataset, sequential_batches(len(dataset), size), num_decode_workers(images, len(dataset))
    ):
        yield batch[0][None] if isinstance(batch, list) else batch
