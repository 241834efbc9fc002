"""Load real images to verify an exported model on: the bundle's own test images, or others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from megavit.data.load import DataSource, load_data
from megavit.data.scan import Progress
from megavit.data.sources.demo import DEMO_PREFIX
from megavit.errors import ImageError
from megavit.evaluation.inference import check_channels, select_split
from megavit.exporting.quantization import BATCH_SIZE, CALIBRATION_IMAGES
from megavit.predict.predictor import Predictor
from megavit.weights.bundle.bundle import SAMPLES, read_reference_images

MAX_IMAGES = 500
STRETCHES = ((1.7, 0.6), (0.6, 1.7), (2.3, 2.9), (0.45, 0.7))  # factors of height and width

T = TypeVar("T")


@dataclass(frozen=True)
class ParityImage:
    """A real image with pixels uint8 (H, W, C) and the index of its class, or None if that is unknown."""

    name: str
    pixels: np.ndarray
    label: int | None = None


def load_parity_images(
    predictor: Predictor, data: DataSource | None, progress: Progress | None = None, max_images: int = MAX_IMAGES
) -> tuple[list[ParityImage], str]:
    """Return images and a description of their source, or raise a DataError if they do not fit the bundle.

    Args:
        data: labeled images as for `megavit train`; None for the bundle's test images, or else its reference images.
        max_images: largest number of images, evenly selected from all.
    """
    if data is not None:
        images = load_data(data, DataRecipe(val=0, test=0), progress, known_classes=predictor.labels)
        choice = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
        samples = _spread(choice.samples, max_images)
        check_channels(images, samples, predictor.info.preprocessing.channels)
        is_classifier = predictor.target == "classification"
        labels = [
            int(sample.target) if is_classifier and isinstance(sample.target, int) else None for sample in samples
        ]
        loaded = [
            ParityImage(
                sample.name, _channels_last(images.load_pixels(sample)), label if isinstance(label, int) else None
            )
            for sample, label in zip(samples, labels, strict=True)
        ]
        return loaded, f"{len(loaded):,} images of {images.source}"
    loaded = _bundle_images(predictor, "test", max_images)
    if loaded:
        return loaded, f"{len(loaded):,} test images of {predictor.info.data['source']}"
    loaded = load_reference_images(predictor)
    return loaded, f"the bundle's {len(loaded):,} reference images"


def load_reference_images(predictor: Predictor) -> list[ParityImage]:
    """Return the bundle's reference images."""
    images = read_reference_images(predictor.folder)
    return [ParityImage(f"reference image {index}", _channels_last(image)) for index, image in enumerate(images)]


def stretch_images(images: Sequence[ParityImage]) -> list[ParityImage]:
    """Return a few images resized to other sizes, so that resizing is verified even if all have the model's size."""
    stretched = []
    for image, (height_factor, width_factor) in zip(_spread(images, len(STRETCHES)), STRETCHES, strict=False):
        height, width = image.pixels.shape[:2]
        size = max(2, round(height * height_factor)), max(2, round(width * width_factor))
        stretched.append(replace(_resize(image, *size), label=None))
    return stretched


def limit_sides(images: Sequence[ParityImage], max_side: int | None) -> list[ParityImage]:
    """Return the images, those with a larger height or width than `max_side` resized to it."""
    if max_side is None:
        return list(images)
    sizes = [tuple(min(side, max_side) for side in image.pixels.shape[:2]) for image in images]
    return [
        image if image.pixels.shape[:2] == size else _resize(image, *size)
        for image, size in zip(images, sizes, strict=True)
    ]


def _resize(image: ParityImage, rows: int, columns: int) -> ParityImage:
    height, width = image.pixels.shape[:2]
    pixels = image.pixels[np.arange(rows) * height // rows][:, np.arange(columns) * width // columns]
    name = f"{image.name} resized to {columns} × {rows}"
    return replace(image, name=name, pixels=np.ascontiguousarray(pixels))


def calibration_batches(predictor: Predictor, images: Sequence[ParityImage]) -> Iterator[Tensor]:
    """Yield uint8 batches (B, C, height, width) of training images, or of `images` if there are none."""
    images = _bundle_images(predictor, "train", CALIBRATION_IMAGES) or images[:CALIBRATION_IMAGES]
    for start in range(0, len(images), BATCH_SIZE):
        yield torch.stack([predictor.prepare(image.pixels) for image in images[start : start + BATCH_SIZE]])


def _bundle_images(predictor: Predictor, split: str, max_images: int) -> list[ParityImage]:
    rows = _spread([row for row in read_samples(predictor.folder / SAMPLES) if row.split == split], max_images)
    source = str(predictor.info.data.get("source", ""))
    if source.startswith(DEMO_PREFIX):
        images = load_data(source, DataRecipe(val=0, test=0))
        samples = {sample.name: sample for sample in images.samples}
        return [
            ParityImage(row.name, _channels_last(images.load_pixels(samples[row.name])), _label(predictor, row))
            for row in rows
            if row.name in samples
        ]
    root = Path(source).parent if Path(source).is_file() else Path(source)
    if not source or not root.is_dir():
        return []
    loaded = []
    for row in rows:
        try:
            data = read_file(root / row.name)
            pixels, _ = read_image_file(data)
        except ImageError:
            continue
        if content_digest(data) == row.digest and can_convert_channels(
            pixels.shape[2], predictor.info.preprocessing.channels
        ):
            loaded.append(ParityImage(row.name, pixels, _label(predictor, row)))
    return loaded


def _label(predictor: Predictor, row: SampleRow) -> int | None:
    labels = [canonical(label) for label in predictor.labels] if predictor.target == "classification" else []
    return labels.index(canonical(row.target)) if canonical(row.target) in labels else None


def _spread(items: Sequence[T], max_count: int) -> list[T]:
    count = min(len(items), max_count)
    return [items[index * len(items) // count] for index in range(count)]


def _channels_last(pixels: Tensor) -> np.ndarray:
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
