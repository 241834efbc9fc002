"""The real images that an exported model is proved on: what the bundle held back from training, or what is given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from megavit.config.names import canonical
from megavit.config.recipe import DataRecipe
from megavit.data.byte_range import content_digest
from megavit.data.dataset import SampleRow, read_samples
from megavit.data.decode.image_file import read_file, read_image_file
from megavit.data.image_dataset import can_convert_channels
from megavit.data.load import TABLES, load_data
from megavit.data.scan import Progress
from megavit.data.sources.demo import PREFIX
from megavit.errors import ImageError
from megavit.evaluate.inference import check_channels, select_split
from megavit.export.quantization import BATCH, CALIBRATION
from megavit.predict.predictor import Predictor
from megavit.weights.bundle.bundle import REFERENCE, SAMPLES
from megavit.weights.bundle.safetensors_io import read_tensors

MOST = 500
"""Images that are compared."""
STRETCHES = ((1.7, 0.6), (0.6, 1.7), (2.3, 2.9), (0.45, 0.7))
"""Factors of height and width."""

T = TypeVar("T")


@dataclass(frozen=True)
class ParityImage:
    """A real image.

    Attributes:
        name: to tell it by.
        pixels: uint8 (H, W, C), as stored.
        label: the true class's index; None where it is not known, or the target is another.
    """

    name: str
    pixels: np.ndarray
    label: int | None = None


def load_parity_images(
    predictor: Predictor, data: str | None, progress: Progress | None = None, most: int = MOST
) -> tuple[list[ParityImage], str]:
    """The images, and where they are from, in words.

    Args:
        data: labeled images, as `megavit train` takes them; None for the test images that the bundle names, as far as
            they are where they were and what they were. Where there are none, for the bundle's reference images.

        most: how many, spread over all that there are.

    Raises:
        DataError: for data that cannot be used with the bundle.
    """
    if data is not None:
        images = load_data(data, DataRecipe(val=0, test=0), progress, known=predictor.labels)
        choice = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
        samples = _spread(choice.samples, most)
        check_channels(images, samples, predictor.info.preprocessing.channels)
        labels = [sample.target if predictor.target == "classification" else None for sample in samples]
        found = [
            ParityImage(sample.name, _last(images.load_pixels(sample)), label if isinstance(label, int) else None)
            for sample, label in zip(samples, labels, strict=True)
        ]
        return found, f"{len(found):,} images of {data}"
    found = _own(predictor, "test", most)
    if found:
        return found, f"{len(found):,} test images of {predictor.info.data['source']}"
    reference = read_tensors(predictor.folder / REFERENCE)
    pictures = [reference[f"image.{i}"] for i in range(len(reference) - 1)]
    found = [ParityImage(f"reference image {i}", _last(picture)) for i, picture in enumerate(pictures)]
    return found, f"the bundle's {len(found):,} reference images"


def stretched(proofs: Sequence[ParityImage]) -> list[ParityImage]:
    """A few of them at other sizes, so that resizing is proved where all images have the model's own."""
    found = []
    for proof, (tall, wide) in zip(_spread(proofs, len(STRETCHES)), STRETCHES, strict=False):
        height, width = proof.pixels.shape[:2]
        rows, columns = (max(2, round(side * factor)) for side, factor in ((height, tall), (width, wide)))
        pixels = proof.pixels[np.arange(rows) * height // rows][:, np.arange(columns) * width // columns]
        found.append(ParityImage(f"{proof.name} made {columns} × {rows}", np.ascontiguousarray(pixels)))
    return found


def to_calibrate(predictor: Predictor, proofs: Sequence[ParityImage]) -> Iterator[Tensor]:
    """Batches uint8 (B, C, height, width) of training images; where these are gone, of the proofs, classes unseen."""
    images = _own(predictor, "train", CALIBRATION) or proofs[:CALIBRATION]
    for start in range(0, len(images), BATCH):
        yield torch.stack([predictor.prepare(one.pixels) for one in images[start : start + BATCH]])


def _own(predictor: Predictor, split: str, most: int) -> list[ParityImage]:
    """Of the bundle's own images, those of a split that are where they were and what they were."""
    rows = _spread([row for row in read_samples(predictor.folder / SAMPLES) if row.split == split], most)
    source = str(predictor.info.data.get("source", ""))
    if source.startswith(PREFIX):
        memory = load_data(source, DataRecipe(val=0, test=0)).memory
        return [
            ParityImage(row.name, _last(memory[row.name]), _label(predictor, row)) for row in rows if row.name in memory
        ]
    root = Path(source).parent if source.endswith(TABLES) else Path(source)
    if not source or not root.is_dir():
        return []
    found = []
    for row in rows:
        try:
            data = read_file(root / row.name)
            pixels, _ = read_image_file(data)
        except ImageError:
            continue
        if content_digest(data) == row.digest and can_convert_channels(
            pixels.shape[2], predictor.info.preprocessing.channels
        ):
            found.append(ParityImage(row.name, pixels, _label(predictor, row)))
    return found


def _label(predictor: Predictor, row: SampleRow) -> int | None:
    labels = [canonical(label) for label in predictor.labels] if predictor.target == "classification" else []
    return labels.index(canonical(row.target)) if canonical(row.target) in labels else None


def _spread(all_of_them: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly over all."""
    count = min(len(all_of_them), most)
    return [all_of_them[place * len(all_of_them) // count] for place in range(count)]


def _last(pixels: Tensor) -> np.ndarray:
    """(C, H, W) as (H, W, C)."""
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
