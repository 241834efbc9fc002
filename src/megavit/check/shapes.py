"""Sizes and channels: a summary, and the images that differ from the rest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from megavit.check.finding import Finding
from megavit.data.samples import LabelledImages, Sample

TINY_SIDE = 4
"""Pixels of the shorter side, in which nothing can be seen."""
TINY_SHARE = 1 / 4
"""Of the median shorter side; what is smaller is tiny beside the others."""
LONG = 4.0
"""How many times as long as the others' aspect an image's must be to stand out."""
FAR = 8.0
"""How many times as large or small as the median the sides must be."""
ODD_SHARE = 0.05
"""So few images of another kind, grey or colour, are odd ones rather than a part of the set."""


@dataclass(frozen=True)
class Shapes:
    """Sizes in pixels, each as (least, median, most), and how many images have how many channels."""

    height: tuple[int, int, int]
    width: tuple[int, int, int]
    channels: dict[int, int]


def shapes_of(samples: Sequence[Sample]) -> Shapes:
    """Of at least one image."""

    def spread(sides: list[int]) -> tuple[int, int, int]:
        return min(sides), round(median(sides)), max(sides)

    channels = Counter(sample.channels for sample in samples)
    return Shapes(
        spread([sample.height for sample in samples]),
        spread([sample.width for sample in samples]),
        dict(channels.most_common()),
    )


def shape_findings(images: LabelledImages) -> list[Finding]:
    """Images whose size, aspect or channels are not like those of the others. No pixel is read."""
    samples = images.samples
    if not samples:
        return []
    heights = np.fromiter((sample.height for sample in samples), np.float64, len(samples))
    widths = np.fromiter((sample.width for sample in samples), np.float64, len(samples))
    shorter, own = np.minimum(heights, widths), np.sqrt(heights * widths)
    aspects = np.maximum(heights, widths) / shorter
    short, side, aspect = np.median(shorter), np.median(own), np.median(aspects)
    tiny = (shorter <= TINY_SIDE) | (shorter < short * TINY_SHARE)
    long = ~tiny & (aspects > LONG * aspect)
    far = ~tiny & ~long & ((own * FAR < side) | (own > side * FAR))
    found: list[Finding] = []
    for place in np.flatnonzero(tiny | long | far).tolist():
        sample = samples[place]
        size = f"{sample.width} × {sample.height} pixels"
        if tiny[place]:
            found.append(Finding("tiny", f"{size}; the shorter side is {short:g} for most", (sample.name,)))
        elif long[place]:
            found.append(Finding("aspect", f"{size}: one side {aspects[place]:.3g} times the other", (sample.name,)))
        else:
            found.append(Finding("size", f"{size}; most are about {side:.0f} × {side:.0f}", (sample.name,)))
    return found + _channel_findings(samples)


def _channel_findings(samples: Sequence[Sample]) -> list[Finding]:
    grey = [sample for sample in samples if sample.channels == 1]
    other = [sample for sample in samples if sample.channels != 1]
    few, what, most = (grey, "grey", "in colour") if len(grey) < len(other) else (other, "in colour", "grey")
    if len(few) > ODD_SHARE * len(samples):
        return []
    return [Finding("channels", f"{what}; most images are {most}", (sample.name,)) for sample in few]
