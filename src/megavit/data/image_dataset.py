"""Preprocess images to the size and channels of a model, alike for training and prediction."""

import math
import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from megavit.config.preprocessing import Interpolation, Preprocessing
from megavit.data.dataset import LabeledImages, Sample, Skipped
from megavit.data.decode.color_modes import composite_on_white
from megavit.data.decode.tensor import decode
from megavit.data.scan import Progress
from megavit.data.workers import map_in_processes
from megavit.errors import DataError, ImageError
from megavit.runtime.device import copies_ahead

COLOR_CHANNELS = (1, 3)

_CHUNK = 64
# Processors on which torchvision's "bilinear" resizing, which is reproduced here, computes in integers.
NATIVE_CAPABILITIES, NATIVE_MACHINES = ("AVX2", "AVX512"), ("aarch64", "arm64")

Images = torch.Tensor | list[torch.Tensor]
"""A batch: one tensor (B, C, height, width), or with `keep_aspect` a list of (C, height, width)."""


def make_batch(images: Sequence[torch.Tensor], preprocessing: Preprocessing) -> Images:
    """Return preprocessed images (C, height, width) as a batch."""
    return list(images) if preprocessing.keep_aspect else torch.stack(list(images))


@overload
def to_device(images: torch.Tensor, device: torch.device) -> torch.Tensor: ...
@overload
def to_device(images: Images, device: torch.device) -> Images: ...
def to_device(images: Images, device: torch.device) -> Images:
    """Copy a batch to a device, without waiting for what the device is still computing, where that is safe."""
    if isinstance(images, list):
        return [image.to(device, non_blocking=copies_ahead(device)) for image in images]
    return images.to(device, non_blocking=copies_ahead(device))


def preprocess(image: torch.Tensor, size: tuple[int, int], preprocessing: Preprocessing) -> torch.Tensor:
    """Preprocess uint8 (C, H, W): composite on white, resize to `size`, crop, and convert to gray or RGB.

    A fourth channel is alpha, unless the model has 4 channels. With a `resize_dtype` of float32, the result has float
    values in [0, 1], except for the overshoot of bicubic interpolation.

    Raises:
        ImageError: if the channels do not fit (`can_convert_channels`).
    """
    channels = preprocessing.channels
    if not can_convert_channels(image.shape[0], channels):
        wanted = "1, 3 or 4" if channels in COLOR_CHANNELS else str(channels)
        raise ImageError(f"the image has {image.shape[0]} channels, but the model expects {wanted}")
    if image.shape[0] == 4 and channels != 4:
        image = _composite(image)
    if preprocessing.resize_dtype == "float32":
        image = _interpolate(image.float(), *size, preprocessing.interpolation) / 255
    else:
        image = resize(image, *size, preprocessing.interpolation)
    if preprocessing.resize is not None:
        top, left = preprocessing.crop_offset(*size)
        image = image[:, top : top + preprocessing.height, left : left + preprocessing.width]
    return convert_channels(image, channels).contiguous()


def can_convert_channels(channels: int, wanted: int) -> bool:
    """Return whether images with `have` channels can be converted to `want`, as gray and color can."""
    return channels == wanted or (wanted in COLOR_CHANNELS and channels in (*COLOR_CHANNELS, 4))


def resize(image: torch.Tensor, height: int, width: int, interpolation: Interpolation = "bicubic") -> torch.Tensor:
    """Resize uint8 (C, H, W) to uint8 (C, height, width) with antialiasing; sides of 1 pixel are unsupported.

    Channels-last memory, as from `decode`, is fastest: half the time of channels-first, a fourth of Pillow's, from
    1,024 to 224 pixels.
    """
    if image.shape[-2:] == (height, width):
        return image
    if interpolation == "bicubic" or _has_native_kernel():
        return _interpolate(image, height, width, interpolation)
    return _interpolate(image.float(), height, width, interpolation).round().clamp(0, 255).to(torch.uint8)


def _interpolate(image: torch.Tensor, height: int, width: int, interpolation: Interpolation) -> torch.Tensor:
    size = (height, width)
    return F.interpolate(image[None], size, mode=interpolation, antialias=True, align_corners=False)[0]


def _has_native_kernel() -> bool:
    return torch.backends.cpu.get_cpu_capability() in NATIVE_CAPABILITIES or platform.machine() in NATIVE_MACHINES


def convert_channels(image: torch.Tensor, channels: int) -> torch.Tensor:
    """Convert uint8 (C, H, W) to gray (the luma of ITU-R BT.601, in Pillow's integer arithmetic) or RGB, if needed."""
    if image.shape[0] == channels:
        return image
    if channels == 3:
        return image.expand(3, -1, -1)
    red, green, blue = image.int()
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)[None]


def _composite(image: torch.Tensor) -> torch.Tensor:
    pixels = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    return torch.from_numpy(np.array(composite_on_white(pixels, "RGB"))).permute(2, 0, 1)


def limit_size(image: torch.Tensor, side: int) -> torch.Tensor:
    """Shrink an image whose longer side exceeds `side` pixels."""
    height, width = image.shape[1:]
    scale = min(1.0, side / max(height, width))
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def displayable_channels(image: torch.Tensor) -> torch.Tensor:
    """Return one channel of an image as gray, or the first three as RGB."""
    return image[:3] if image.shape[0] >= 3 else image[:1]


class ImageDataset(torch.utils.data.Dataset[torch.Tensor]):
    """A map-style dataset of uint8 images (channels, height, width), decoded and preprocessed on access.

    Args:
        preprocessing: preprocessing that sets the size and channels.
        margin: factor by which images may be larger than the model's input if they have the detail.

    Attributes:
        damaged: reasons by name of damaged images in shards that were replaced.

    Raises:
        DataError: if a file cannot be read any more or has changed since it was scanned.
    """

    def __init__(
        self, images: LabeledImages, samples: Sequence[Sample], preprocessing: Preprocessing, margin: float = 1.0
    ) -> None:
        self.images = images
        self.samples = tuple(samples)
        self.preprocessing = preprocessing
        self.margin = margin
        self.damaged: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> torch.Tensor:
        image, damage = self.read(index)
        if damage is not None:
            self.damaged[damage.name] = damage.reason
        return image

    def read(self, index: int) -> tuple[torch.Tensor, Skipped | None]:
        """Return an image, and what was damaged if it is a replacement."""
        sample, damage = self.samples[index], None
        try:
            if sample.location is None:
                pixels = self.images.load_pixels(sample, self.decode_size(sample))
            else:
                sample, data, damage = self.images.read_or_replace(sample)
                pixels = decode(data, self.decode_size(sample))
        except ImageError as error:
            raise self.images.unreadable_error(sample, error.reason) from error
        return preprocess(pixels, self.output_size(sample), self.preprocessing), damage

    def decode_size(self, sample: Sample) -> tuple[int, int] | None:
        """Return the smallest (height, width) to decode a sample at before preprocessing; None for full size."""
        return self.output_size(sample) if self.preprocessing.reduced_decoding else None

    def output_size(self, sample: Sample) -> tuple[int, int]:
        """Return the (height, width) of a sample after preprocessing."""
        size = self.preprocessing.size_for(sample.height, sample.width)
        if self.margin == 1:
            return size
        sides = zip(size, (sample.height, sample.width), strict=True)
        height, width = (max(input_side, min(side, round(input_side * self.margin))) for input_side, side in sides)
        return height, width

    @property
    def nbytes(self) -> int:
        """The number of bytes that `load_into_memory` allocates."""
        each = 4 if self.preprocessing.resize_dtype == "float32" else 1
        return each * self.preprocessing.channels * sum(math.prod(self.output_size(sample)) for sample in self.samples)


def load_into_memory(dataset: ImageDataset, workers: int, progress: Progress | None = None) -> Images:
    """Load all images as one batch, decoded by `workers` processes, or by this one if 0 or already in memory.

    Raises:
        DataError: as for `ImageDataset`, or if a worker died.
    """
    preprocessing = dataset.preprocessing
    # Workers receive only the samples and the memory of their chunk, to keep messages small.
    images, memory = replace(dataset.images, samples=(), skipped=(), memory={}), dataset.images.memory
    parts = []
    for start in range(0, len(dataset), _CHUNK):
        samples = dataset.samples[start : start + _CHUNK]
        own = {sample.name: memory[sample.name] for sample in samples if sample.name in memory}
        part = replace(images, memory=own) if own else images
        parts.append(ImageDataset(part, samples, preprocessing, dataset.margin))
    batch: Images = []
    if not preprocessing.keep_aspect:
        dtype = torch.float32 if preprocessing.resize_dtype == "float32" else torch.uint8
        batch = torch.empty(
            len(dataset), preprocessing.channels, preprocessing.height, preprocessing.width, dtype=dtype
        )
    done = 0
    for arrays in map_in_processes(_read_chunk, parts, 0 if dataset.images.is_decoded else workers):
        for index, array in enumerate(arrays, start=done):
            # A damaged image can be replaced only here, where all samples are known.
            image = dataset[index] if array is None else torch.from_numpy(array)
            if isinstance(batch, list):
                batch.append(image)
            else:
                batch[index] = image
        done += len(arrays)
        if progress is not None:
            progress(done, len(dataset))
    return batch


def _read_chunk(dataset: ImageDataset) -> list[np.ndarray | None]:
    # An array is sent to another process as bytes; a tensor would take a file descriptor.
    return [_read_array(dataset, index) for index in range(len(dataset))]


def _read_array(dataset: ImageDataset, index: int) -> np.ndarray | None:
    try:
        return dataset[index].numpy()
    except DataError:
        if dataset.samples[index].location is None:
            raise
        return None


def compute_channel_statistics(dataset: ImageDataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's (mean, standard deviation) over all images, of values in [0, 1].

    Integer sums are the same on every machine. The deviation is at least one level, 1/255, so that the noise of a
    nearly constant channel is not amplified.
    """
    total = torch.zeros(dataset.preprocessing.channels, dtype=torch.int64)
    squares, count = torch.zeros_like(total), 0
    for index in range(len(dataset)):
        values = dataset[index].long()
        total += values.sum(dim=(1, 2))
        squares += values.square().sum(dim=(1, 2))
        count += values[0].numel()
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).clamp(min=0).sqrt().clamp(min=1)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
