"""Small sets of images in memory, and pictures that no two of are alike."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.target import TargetKind
from megavit.data.samples import LabelledImages, Sample, Skipped, TargetValue, digest


def scene(seed: int, side: int = 48, channels: int = 3) -> Tensor:
    """uint8 (channels, side, side): soft patches and edges, as photographs have, another for every seed."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 5, 5, generator=random)
    fine = torch.rand(1, channels, 14, 14, generator=random)
    whole = 0.6 * F.interpolate(coarse, (side, side), mode="bicubic") + 0.4 * F.interpolate(fine, (side, side))
    return (whole[0].clamp(0, 1) * 255).round().to(torch.uint8)


def labelled(
    pictures: Sequence[Tensor],
    targets: Sequence[TargetValue] | None = None,
    splits: Sequence[str] | None = None,
    *,
    classes: Sequence[str] = ("cat", "dog"),
    target: TargetKind = "classes",
    names: Sequence[str] | None = None,
    skipped: Sequence[Skipped] = (),
) -> LabelledImages:
    """A set of pictures (C, H, W); by default all are cats to train on."""
    names = names or [f"{place:04}.png" for place in range(len(pictures))]
    targets = targets or [0] * len(pictures)
    splits = splits or ["train"] * len(pictures)
    samples = tuple(
        Sample(
            name, value, split, picture.shape[1], picture.shape[2], picture.shape[0], digest(picture.numpy().tobytes())
        )
        for name, picture, value, split in zip(names, pictures, targets, splits, strict=True)
    )
    memory = dict(zip(names, pictures, strict=True))
    return LabelledImages("set", None, tuple(classes), samples, tuple(skipped), "as given", memory, target)


def sized(count: int, **changes: int | str) -> list[Sample]:
    """Samples of 40 × 40 in colour with other facts."""
    base = Sample("0", 0, "train", 40, 40, 3, "0")
    return [replace(base, name=f"{place}", digest=f"{place}", **changes) for place in range(count)]
