"""Small gray thumbnails of all images, to find blank images and near duplicates."""

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
"""Pixels per side of a thumbnail: 1 KiB per image."""
MIN_CONTRAST = 8
"""Levels, of 256, between the darkest and the brightest pixel of a thumbnail, below which the image is blank."""


@dataclass(frozen=True)
class Thumbnails:
    """`gray` (N, SIDE, SIDE) uint8, a row for each sample; and `blank` (N,) bool, of images of one shade."""

    gray: Tensor
    blank: Tensor


def load_thumbnails(images: LabeledImages, progress: Progress | None = None) -> Thumbnails:
    """Decode every image once, at a reduced scale where its format has one.

    Channels other than those of gray and color images are averaged.

    Raises:
        DataError: where an image cannot be read any more.
    """
    samples = images.samples
    channels = samples[0].channels
    channels = 1 if channels in (*COLOR_CHANNELS, 4) else channels
    preprocessing = Preprocessing(height=SIDE, width=SIDE, channels=channels)
    dataset = ImageDataset(images, samples, preprocessing)
    pixels = load_into_memory(dataset, num_decode_workers(images, len(samples)), progress)
    assert isinstance(pixels, Tensor)  # of one size
    gray = pixels[:, 0] if channels == 1 else pixels.float().mean(dim=1).round().to(torch.uint8)
    flat = gray.flatten(1)
    return Thumbnails(gray, flat.amax(dim=1).int() - flat.amin(dim=1).int() < MIN_CONTRAST)


def blank_findings(images: LabeledImages, thumbnails: Thumbnails) -> list[Finding]:
    """Return a finding for each image that is of one shade, or almost."""
    levels = thumbnails.gray.flatten(1).float().mean(dim=1)
    findings: list[Finding] = []
    for i in torch.nonzero(thumbnails.blank).flatten().tolist():
        shade = "black" if levels[i] < 32 else "white" if levels[i] > 223 else "one shade"
        findings.append(Finding("blank", f"all of it is {shade}, or almost", (images.samples[i].name,)))
    return findings
