"""What shows without looking at a pixel, in a moment, for a training run to tell before it begins."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from megavit.check.exact_duplicates import copy_findings, exact_pairs
from megavit.check.files import file_findings
from megavit.check.finding import KINDS, Finding, Kind, worst_first
from megavit.config.names import find_look_alikes, is_missing, show_code_points
from megavit.data.dataset import LabeledImages, Sample

FEW = 10
"""Images to learn from, below which a class is hardly learned and its figures are chance."""
UNEVEN = 10.0
"""How many times the images of the smallest class the largest one must have to be worth a word."""
_NAMED = 5


def class_findings(images: LabeledImages) -> list[Finding]:
    """Names that look alike, uneven classes, those with few images, and those missing from a split; of labels not the
    uneven ones."""
    if images.target == "regression":
        return []
    what = "class" if images.target == "classification" else "label"
    alike = [Finding("spelling", f"{show_code_points(names)} look alike") for names in find_look_alikes(images.classes)]
    alike += [
        Finding("spelling", f"the {what} {name} is named as programs write that there is none")
        for name in images.classes
        if is_missing(name)
    ]
    counts = images.class_counts()
    learned = counts["train"]
    found = alike + [
        Finding("few", f"the {what} {name} has {_images(count)} to learn from", score=1 - count / FEW)
        for name, count in learned.items()
        if count < FEW
    ]
    large, small = max(learned, key=learned.__getitem__), min(learned, key=learned.__getitem__)
    ratio = learned[large] / max(1, learned[small])
    if images.target == "classification" and ratio > UNEVEN:
        sentence = f"{_images(learned[large])} of {large} to learn from and {_images(learned[small])} of {small}"
        found.append(Finding("imbalance", f"{sentence}: {ratio:.3g} times as many", score=ratio))
    for split, size in images.split_sizes().items():
        absent = [name for name, count in counts[split].items() if not count]
        if size and absent:
            named = ", ".join(absent[:_NAMED]) + (" …" if len(absent) > _NAMED else "")
            sentence = f"{split} has no image of {len(absent):,} of {len(images.classes):,}: {named}"
            found.append(Finding("missing", sentence, score=len(absent) / len(images.classes)))
    return found


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


WORTH_A_WORD: tuple[Kind, ...] = ("leak", "conflict", "spelling", "missing", "few", "tiny")
"""Of these a run tells: it says of itself what it skips and that classes are uneven."""
MOST_LINES = 3


def quick_findings(images: LabeledImages) -> list[Finding]:
    """Skipped files, identical files, odd sizes, uneven classes; the worst first. No file is opened."""
    return worst_first(
        [
            *file_findings(images),
            *copy_findings(images, exact_pairs(images.samples)),
            *class_findings(images),
            *shape_findings(images),
        ]
    )


def data_warnings(images: LabeledImages) -> list[str]:
    """Return at most `MOST_LINES` lines for a person who wants to train, the most serious first."""
    return list(images.compute_once(_warnings))


def _warnings(images: LabeledImages) -> list[str]:
    by_kind: dict[Kind, list[Finding]] = defaultdict(list)
    for finding in quick_findings(images):
        by_kind[finding.kind].append(finding)
    told = [kind for kind in by_kind if kind in WORTH_A_WORD]
    lines = [_line(kind, by_kind[kind]) for kind in told[:MOST_LINES]]
    if lines:
        lines[-1] += f"; megavit check {'lists them' if len(told) <= MOST_LINES else 'has more'}"
    return lines


def _line(kind: Kind, findings: list[Finding]) -> str:
    sentences = Counter(finding.sentence for finding in findings).most_common()
    others = f", and {len(findings) - sentences[0][1]:,} more" if len(sentences) > 1 else ""
    return f"{KINDS[kind].title}: {sentences[0][0]}, {_times(sentences[0][1])}{others}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


TINY_SIDE = 4
"""Pixels of the shorter side, in which nothing can be seen."""
TINY_SHARE = 1 / 4
"""Of the median shorter side; what is smaller is tiny beside the others."""
LONG = 4.0
"""How many times as long as the others' aspect an image's must be to stand out."""
FAR = 8.0
"""How many times as large or small as the median the sides must be."""
ODD_SHARE = 0.05
"""So few images of another kind, gray or color, are odd ones rather than a part of the set."""


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


def shape_findings(images: LabeledImages) -> list[Finding]:
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
    gray = [sample for sample in samples if sample.channels == 1]
    other = [sample for sample in samples if sample.channels != 1]
    few, what, most = (gray, "gray", "in color") if len(gray) < len(other) else (other, "in color", "gray")
    if len(few) > ODD_SHARE * len(samples):
        return []
    return [Finding("channels", f"{what}; most images are {most}", (sample.name,)) for sample in few]
