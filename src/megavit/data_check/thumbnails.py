"""Load gray thumbnails of all images, to find blank images and near duplicates."""

from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.dataset import LabeledImages
from megavit.data.image_dataset import COLOR_CHANNELS, ImageDataset, load_into_memory
from megavit.data.scan import Progress
from megavit.data_check.finding import Finding
from megavit.evaluation.inference import num_decode_workers

SIDE = 32
"""Pixels per side of a thumbnail: 1 KiB per image."""
MIN_CONTRAST = 8
"""Minimum difference between the brightest and the darkest pixel (0 to 255) of an image that is not blank."""


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails `gray` (N, SIDE, SIDE) uint8, and `blank` (N,) bool: whether an image has only one shade."""

    gray: Tensor
    blank: Tensor


def load_thumbnails(images: LabeledImages, progress: Progress | None = None) -> Thumbnails:
    """Return a thumbnail of every image; channels other than those of gray and color images are averaged.

    Raises:
        DataError: if an image can no longer be read.
    """
    samples = images.samples
    channels = samples[0].channels
    channels = 1 if channels in (*COLOR_CHANNELS, 4) else channels
    preprocessing = Preprocessing(height=SIDE, width=SIDE, channels=channels)
    dataset = ImageDataset(images, samples, preprocessing)
    pixels = load_into_memory(dataset, num_decode_workers(images, len(samples)), progress)
    assert isinstance(pixels, Tensor)
    gray = pixels[:, 0] if channels == 1 else pixels.float().mean(dim=1).round().to(torch.uint8)
    flat = gray.flatten(1)
    return Thumbnails(gray, flat.amax(dim=1).int() - flat.amin(dim=1).int() < MIN_CONTRAST)


def blank_findings(images: LabeledImages, thumbnails: Thumbnails) -> list[Finding]:
    """Return a finding for each image that has only one shade, or almost."""
    levels = thumbnails.gray.flatten(1).float().mean(dim=1)
    findings: list[Finding] = []
    for i in torch.nonzero(thumbnails.blank).flatten().tolist():
        shade = "black" if levels[i] < 32 else "white" if levels[i] > 223 else "one shade"
        findings.append(
            Finding("blank", f"the image is entirely or almost entirely {shade}", (images.samples[i].name,))
        )
    return findings
