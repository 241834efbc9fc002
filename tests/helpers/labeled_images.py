"""Small sets of images in memory, and pictures that no two of are alike."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.target import TargetKind
from megavit.data.byte_range import content_digest
from megavit.data.dataset import LabeledImages, Sample, Skipped, TargetValue


def make_scene(seed: int, side: int = 48, channels: int = 3) -> Tensor:
    """uint8 (channels, side, side): soft patches and edges, as photographs have, another for every seed."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 5, 5, generator=random)
    fine = torch.rand(1, channels, 14, 14, generator=random)
    whole = 0.6 * F.interpolate(coarse, (side, side), mode="bicubic") + 0.4 * F.interpolate(fine, (side, side))
    return (whole[0].clamp(0, 1) * 255).round().to(torch.uint8)


def make_labeled_images(
    pictures: Sequence[Tensor],
    targets: Sequence[TargetValue] | None = None,
    splits: Sequence[str] | None = None,
    *,
    classes: Sequence[str] = ("cat", "dog"),
    target: TargetKind = "classification",
    names: Sequence[str] | None = None,
    skipped: Sequence[Skipped] = (),
) -> LabeledImages:
    """A set of pictures (C, H, W); by default all are cats to train on."""
    names = names or [f"{place:04}.png" for place in range(len(pictures))]
    targets = targets or [0] * len(pictures)
    splits = splits or ["train"] * len(pictures)
    samples = tuple(
        Sample(
            name,
            value,
            split,
            picture.shape[1],
            picture.shape[2],
            picture.shape[0],
            content_digest(picture.numpy().tobytes()),
        )
        for name, picture, value, split in zip(names, pictures, targets, splits, strict=True)
    )
    memory = dict(zip(names, pictures, strict=True))
    return LabeledImages("set", None, tuple(classes), samples, tuple(skipped), "as given", memory, target)


def make_sized_samples(
    count: int, *, split: str = "train", height: int = 40, width: int = 40, channels: int = 3
) -> list[Sample]:
    """Samples of the class 0, by default of 40 × 40 in color to train on."""
    return [Sample(f"{place}", 0, split, height, width, channels, f"{place}") for place in range(count)]
