"""Check files, exact duplicates, classes, sizes and channels without reading pixels."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median

import numpy as np

from megavit.config.names import find_look_alikes, is_missing, show_code_points
from megavit.data.assemble import OTHER_CHANNELS
from megavit.data.dataset import LabeledImages, Sample, Skipped
from megavit.data.decode.image_file import NOT_AN_IMAGE
from megavit.data.file_names import HIDDEN, IMAGE_SUFFIXES, WRITTEN
from megavit.data.sources.folder import OUTSIDE
from megavit.data.sources.label_log import REASONS
from megavit.data.sources.rows import LISTED_TWICE
from megavit.data.sources.tree import ALREADY_READ
from megavit.data_check.exact_duplicates import duplicate_findings, find_exact_duplicates
from megavit.data_check.finding import KINDS, Finding, Kind, sort_by_severity

WARNING_KINDS: tuple[Kind, ...] = ("leak", "label_conflict", "similar_names", "missing_class", "few_images", "tiny")
"""Kinds that a training run warns of; it reports skipped files and imbalance separately."""
MAX_WARNINGS = 3


def quick_findings(images: LabeledImages) -> list[Finding]:
    """Return the findings of all quick checks, the worst first."""
    return sort_by_severity(
        [
            *file_findings(images),
            *duplicate_findings(images, find_exact_duplicates(images.samples)),
            *class_findings(images),
            *shape_findings(images),
        ]
    )


def data_warnings(images: LabeledImages) -> list[str]:
    """Return at most `MAX_WARNINGS` lines to show before training, the most serious first."""
    return list(images.compute_once(_list_warnings))


def _list_warnings(images: LabeledImages) -> list[str]:
    by_kind: dict[Kind, list[Finding]] = defaultdict(list)
    for finding in quick_findings(images):
        if finding.kind in WARNING_KINDS:
            by_kind[finding.kind].append(finding)
    lines = [_format_warning(kind, findings) for kind, findings in list(by_kind.items())[:MAX_WARNINGS]]
    if lines:
        lines[-1] += f"; megavit check {'lists them' if len(by_kind) <= MAX_WARNINGS else 'has more'}"
    return lines


def _format_warning(kind: Kind, findings: list[Finding]) -> str:
    messages = Counter(finding.message for finding in findings).most_common()
    message, count = messages[0]
    others = f", and {len(findings) - count:,} more" if len(messages) > 1 else ""
    return f"{KINDS[kind].title}: {message}, {'once' if count == 1 else f'{count:,} times'}{others}"


# files

HARMLESS = (HIDDEN, WRITTEN, OUTSIDE, ALREADY_READ, LISTED_TWICE, *REASONS.values())
"""Reasons of `megavit.data` for skipping a file that do not indicate a problem."""

_IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in (*IMAGE_SUFFIXES, "jpe") if suffix not in ("img", "bin"))


def file_findings(images: LabeledImages) -> list[Finding]:
    """Return a finding for each skipped file that should have been an image, and one per harmless reason."""
    findings: list[Finding] = []
    harmless: dict[str, list[str]] = defaultdict(list)
    for skipped in images.skipped:
        if _is_harmless(skipped):
            harmless[skipped.reason].append(skipped.name)
        elif _has_other_channels(skipped):
            findings.append(Finding("channels", f"skipped: {skipped.reason}", (skipped.name,)))
        else:
            findings.append(Finding("unreadable", skipped.reason, (skipped.name,)))
    return findings + [Finding("unused", reason, tuple(names)) for reason, names in harmless.items()]


def _is_harmless(skipped: Skipped) -> bool:
    """Return whether a skipped file indicates no problem; a file that is not an image may not be named like one."""
    if skipped.reason.startswith(NOT_AN_IMAGE):
        return PurePosixPath(skipped.name).suffix.lower() not in _IMAGE_SUFFIXES
    return skipped.reason in HARMLESS


def _has_other_channels(skipped: Skipped) -> bool:
    count, _, rest = skipped.reason.partition(" ")
    return count.isdigit() and rest.startswith(OTHER_CHANNELS)


# classes

MIN_CLASS_IMAGES = 10
"""Minimum number of training images for a class to be learned and evaluated."""
MAX_IMBALANCE = 10.0
"""Maximum ratio of the sizes of the largest and the smallest class."""
_MAX_LISTED = 5


def class_findings(images: LabeledImages) -> list[Finding]:
    """Return similar names, small classes, imbalance (not for multilabel) and classes missing from a split."""
    if images.target == "regression":
        return []
    what, plural = ("class", "classes") if images.target == "classification" else ("label", "labels")
    findings = [
        Finding("similar_names", f"{show_code_points(names)} look alike") for names in find_look_alikes(images.classes)
    ]
    findings += [
        Finding("similar_names", f"the {what} {name} has a name that programs use for a missing value")
        for name in images.classes
        if is_missing(name)
    ]
    counts = images.class_counts()
    train = counts["train"]
    findings += [
        Finding(
            "few_images",
            f"the {what} {name} has {_count_images(count)} to train on",
            score=1 - count / MIN_CLASS_IMAGES,
        )
        for name, count in train.items()
        if count < MIN_CLASS_IMAGES
    ]
    largest, smallest = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    ratio = train[largest] / max(1, train[smallest])
    if images.target == "classification" and ratio > MAX_IMBALANCE:
        most, fewest = _count_images(train[largest]), _count_images(train[smallest])
        sizes = f"{most} of {largest} to train on and {fewest} of {smallest}"
        findings.append(Finding("imbalance", f"{sizes}: {ratio:.3g} times as many", score=ratio))
    for split, size in images.split_sizes().items():
        absent = [name for name, count in counts[split].items() if not count]
        if size and absent:
            listed = ", ".join(absent[:_MAX_LISTED]) + (" …" if len(absent) > _MAX_LISTED else "")
            message = f"{split} has no images of {len(absent):,} of {len(images.classes):,} {plural}: {listed}"
            findings.append(Finding("missing_class", message, score=len(absent) / len(images.classes)))
    return findings


def _count_images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


# sizes and channels

TINY_SIDE = 4
"""Shorter side in pixels up to which nothing can be seen."""
TINY_SHARE = 1 / 4
"""Share of the median shorter side below which an image is tiny."""
MAX_ASPECT_RATIO = 4.0
"""Maximum aspect ratio as a multiple of the median."""
MAX_SIZE_RATIO = 8.0
"""Maximum factor between the size of an image and the median."""
MAX_ODD_SHARE = 0.05
"""Maximum share of gray images among color images, or the reverse, that are reported as exceptions."""


@dataclass(frozen=True)
class ImageStatistics:
    """Image sizes in pixels as (minimum, median, maximum), and the number of images per number of channels."""

    height: tuple[int, int, int]
    width: tuple[int, int, int]
    channels: dict[int, int]


def summarize_shapes(samples: Sequence[Sample]) -> ImageStatistics:
    """Return the statistics of one or more images."""

    def summarize(sides: list[int]) -> tuple[int, int, int]:
        return min(sides), round(median(sides)), max(sides)

    return ImageStatistics(
        summarize([sample.height for sample in samples]),
        summarize([sample.width for sample in samples]),
        dict(Counter(sample.channels for sample in samples).most_common()),
    )


def shape_findings(images: LabeledImages) -> list[Finding]:
    """Return images whose size, aspect ratio or channels differ from those of most images."""
    samples = images.samples
    if not samples:
        return []
    heights = np.fromiter((sample.height for sample in samples), np.float64, len(samples))
    widths = np.fromiter((sample.width for sample in samples), np.float64, len(samples))
    shorter, sides = np.minimum(heights, widths), np.sqrt(heights * widths)
    aspects = np.maximum(heights, widths) / shorter
    usual_shorter, usual_side = np.median(shorter), np.median(sides)
    tiny = (shorter <= TINY_SIDE) | (shorter < usual_shorter * TINY_SHARE)
    long = ~tiny & (aspects > MAX_ASPECT_RATIO * np.median(aspects))
    far = ~tiny & ~long & ((sides * MAX_SIZE_RATIO < usual_side) | (sides > usual_side * MAX_SIZE_RATIO))
    findings: list[Finding] = []
    for i in np.flatnonzero(tiny | long | far).tolist():
        sample = samples[i]
        size, name = f"{sample.width} × {sample.height} pixels", (sample.name,)
        if tiny[i]:
            findings.append(Finding("tiny", f"{size}; the shorter side is {usual_shorter:g} for most", name))
        elif long[i]:
            findings.append(Finding("aspect", f"{size}: one side {aspects[i]:.3g} times the other", name))
        else:
            findings.append(Finding("size", f"{size}; most are about {usual_side:.0f} × {usual_side:.0f}", name))
    return findings + _channel_findings(samples)


def _channel_findings(samples: Sequence[Sample]) -> list[Finding]:
    gray = [sample for sample in samples if sample.channels == 1]
    other = [sample for sample in samples if sample.channels != 1]
    odd, odd_kind, usual_kind = (gray, "gray", "in color") if len(gray) < len(other) else (other, "in color", "gray")
    if len(odd) > MAX_ODD_SHARE * len(samples):
        return []
    return [Finding("channels", f"{odd_kind}; most images are {usual_kind}", (sample.name,)) for sample in odd]
