"""Images at the size and with the channels a model takes; training and prediction share `prepare`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from megavit.data.modes import on_white
from megavit.data.samples import LabelledImages, Sample
from megavit.data.scan import Progress
from megavit.data.workers import in_processes
from megavit.errors import DataError, ImageError

COLOUR = (1, 3)
"""Channels that images of each other's kind can be made into: grey and RGB."""

_CHUNK = 64


def prepare(image: torch.Tensor, height: int, width: int, channels: int) -> torch.Tensor:
    """uint8 (C, H, W) as uint8 (channels, height, width): opacity on white, resized, then grey or RGB.

    A fourth channel is opacity, unless `channels` is 4.

    Raises:
        ImageError: where the channels do not fit, as `fits` says.
    """
    if not fits(image.shape[0], channels):
        wanted = "1, 3 or 4" if channels in COLOUR else str(channels)
        raise ImageError(f"{image.shape[0]} channels, where the model takes images of {wanted}")
    if image.shape[0] == 4 and channels != 4:
        image = _opaque(image)
    return as_channels(resize(image, height, width), channels).contiguous()


def fits(have: int, want: int) -> bool:
    """Whether images of `have` channels can be made into `want`: grey and colour, with opacity or not, into another."""
    return have == want or (want in COLOUR and have in (*COLOUR, 4))


def resize(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """uint8 (C, H, W) as uint8 (C, height, width): the whole image, bicubic, antialiased.

    The sides are scaled each by itself; an image of the right size is returned as it is. The new sides are at least
    2, because PyTorch (2.15) resizes wrongly to a single column.

    Channels that lie last in memory, as `decode` leaves them, take the fastest way: 224 pixels from 1,024 in a fourth
    of Pillow's time, and half of that of channels that lie first.
    """
    if image.shape[-2:] == (height, width):
        return image
    return transforms.resize(image, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True)


def as_channels(image: torch.Tensor, channels: int) -> torch.Tensor:
    """uint8 (C, H, W) as uint8 (channels, H, W): grey as RGB, RGB as grey; otherwise they are as many already.

    Grey is the luma of ITU-R BT.601, in the whole numbers that Pillow uses.
    """
    if image.shape[0] == channels:
        return image
    if channels == 3:
        return image.expand(3, -1, -1)
    red, green, blue = image.int()
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)[None]


def _opaque(image: torch.Tensor) -> torch.Tensor:
    pixels = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    return torch.from_numpy(np.array(on_white(pixels, "RGB"))).permute(2, 0, 1)


class Pictures(torch.utils.data.Dataset[torch.Tensor]):
    """Samples as uint8 (channels, height, width) by place, decoded when asked for.

    Raises:
        DataError: naming the file, where it could be read before and cannot any more.
    """

    def __init__(
        self, images: LabelledImages, samples: Sequence[Sample], height: int, width: int, channels: int
    ) -> None:
        self.images = images
        self.samples = tuple(samples)
        self.height = height
        self.width = width
        self.channels = channels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> torch.Tensor:
        sample = self.samples[index]
        try:
            pixels = self.images.pixels(sample, (self.height, self.width))
        except ImageError as error:
            raise DataError(
                f"{sample.name!r} of {self.images.source!r} could be read before and cannot any more: {error.reason}. "
                "Restore it, or start again without it"
            ) from error
        return prepare(pixels, self.height, self.width, self.channels)

    @property
    def nbytes(self) -> int:
        """Memory that `load_all` takes."""
        return len(self) * self.channels * self.height * self.width


def load_all(pictures: Pictures, workers: int, progress: Progress | None = None) -> torch.Tensor:
    """Every picture in memory, uint8 (N, channels, height, width), decoded once by `workers` processes.

    With 0 workers, and for images that are in memory already, this process decodes them.

    Raises:
        DataError: as `Pictures`, or where a process died.
    """
    whole = torch.empty(len(pictures), pictures.channels, pictures.height, pictures.width, dtype=torch.uint8)
    # A part carries its own samples only: it is sent to another process.
    images = replace(pictures.images, samples=(), skipped=())
    parts = [
        Pictures(images, pictures.samples[start : start + _CHUNK], pictures.height, pictures.width, pictures.channels)
        for start in range(0, len(pictures), _CHUNK)
    ]
    done = 0
    for stack in in_processes(_stack, parts, 0 if images.root is None else workers):
        whole[done : done + len(stack)] = torch.from_numpy(stack)
        done += len(stack)
        if progress is not None:
            progress(done, len(pictures))
    return whole


def _stack(pictures: Pictures) -> np.ndarray:
    # An array goes to another process as bytes; a tensor would take one file descriptor each.
    return torch.stack([pictures[index] for index in range(len(pictures))]).numpy()


def channel_statistics(pictures: Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, standard deviation) of each channel over some pictures, of values in [0, 1].

    Sums of whole numbers, so that every machine finds the same. The deviation of a channel that hardly changes is
    taken as one level, 1/255, lest its noise be blown up.
    """
    total = torch.zeros(pictures.channels, dtype=torch.int64)
    squares = torch.zeros_like(total)
    for place in range(len(pictures)):
        values = pictures[place].long()
        total += values.sum(dim=(1, 2))
        squares += values.square().sum(dim=(1, 2))
    count = len(pictures) * pictures.height * pictures.width
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).clamp(min=0).sqrt().clamp(min=1)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
