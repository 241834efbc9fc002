"""Files that were found and could not be used."""

from collections import defaultdict
from pathlib import PurePosixPath

from megavit.check.finding import Finding
from megavit.data.dataset import LabeledImages, Skipped
from megavit.data.decode.image_file import NOT_AN_IMAGE
from megavit.data.sources.folder import OUTSIDE
from megavit.data.sources.hidden import HIDDEN, WRITTEN

HARMLESS = (HIDDEN, WRITTEN, OUTSIDE, "a link to a folder that is read already", "listed twice")
"""Reasons of `megavit.data` that say nothing against a file."""

_IMAGES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".gif",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".ppm",
        ".pgm",
        ".npy",
    )
)


def file_findings(images: LabeledImages) -> list[Finding]:
    """What `load_data` skipped: a finding for each file that should have been an image, one a reason for the rest."""
    found: list[Finding] = []
    harmless: dict[str, list[str]] = defaultdict(list)
    for skipped in images.skipped:
        if _is_harmless(skipped):
            harmless[skipped.reason].append(skipped.name)
        elif _other_channels(skipped):
            found.append(Finding("channels", f"left out: {skipped.reason}", (skipped.name,)))
        else:
            found.append(Finding("unreadable", skipped.reason, (skipped.name,)))
    for reason, names in harmless.items():
        found.append(Finding("unused", reason, tuple(names)))
    return found


def _is_harmless(skipped: Skipped) -> bool:
    """A text beside the images is no fault; what is called an image and is none is one."""
    if skipped.reason.startswith(NOT_AN_IMAGE):
        return PurePosixPath(skipped.name).suffix.lower() not in _IMAGES
    return skipped.reason in HARMLESS


def _other_channels(skipped: Skipped) -> bool:
    count, _, rest = skipped.reason.partition(" ")
    return count.isdigit() and rest.startswith("channels, where most")
