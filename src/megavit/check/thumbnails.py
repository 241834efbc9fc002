"""Every image as a small gray picture: enough to see whether it is empty, and what it is a copy of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.check.finding import Finding
from megavit.config.preprocessing import Preprocessing
from megavit.data.dataset import LabeledImages
from megavit.data.image_dataset import COLOR_CHANNELS, ImageDataset, load_into_memory
from megavit.data.scan import Progress
from megavit.evaluate.inference import num_decode_workers

SIDE = 32
"""Pixels a side of a look: 1 KiB an image."""
FLAT = 8
"""Levels, of 256, between the darkest and the brightest pixel of a look, below which there is nothing to see."""


@dataclass(frozen=True)
class Looks:
    """`gray` (N, SIDE, SIDE) uint8, a row a sample; and `flat` (N,) bool, of those with nothing in them."""

    gray: Tensor
    flat: Tensor


def look_at(images: LabeledImages, progress: Progress | None = None) -> Looks:
    """Decode every image once, at a reduced scale where its format has one.

    Images of other channels than gray and color are seen as the mean of theirs.

    Raises:
        DataError: where an image cannot be read any more.
    """
    samples = images.samples
    channels = samples[0].channels
    channels = 1 if channels in (*COLOR_CHANNELS, 4) else channels
    size = Preprocessing(height=SIDE, width=SIDE, channels=channels)
    pictures = load_into_memory(ImageDataset(images, samples, size), num_decode_workers(images, len(samples)), progress)
    assert isinstance(pictures, Tensor)  # of one size
    gray = pictures[:, 0] if channels == 1 else pictures.float().mean(dim=1).round().to(torch.uint8)
    pixels = gray.flatten(1)
    return Looks(gray, pixels.amax(dim=1).int() - pixels.amin(dim=1).int() < FLAT)


def flat_findings(images: LabeledImages, looks: Looks) -> list[Finding]:
    """Images of one color, or almost."""
    levels = looks.gray.flatten(1).float().mean(dim=1)
    found: list[Finding] = []
    for place in torch.nonzero(looks.flat).flatten().tolist():
        shade = "black" if levels[place] < 32 else "white" if levels[place] > 223 else "one shade"
        found.append(Finding("blank", f"all of it is {shade}, or almost", (images.samples[place].name,)))
    return found
