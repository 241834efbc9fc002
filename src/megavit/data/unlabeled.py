"""Load images to learn from without their labels."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from megavit.config.recipe import DataRecipe
from megavit.data.assemble import separate_odd_channels
from megavit.data.dataset import LabeledImages, Sample, Skipped
from megavit.data.image_dataset import can_convert_channels
from megavit.data.load import DataSource, is_named, name_source, scan_source
from megavit.data.scan import Candidate, ImageInfo, Listing, Progress, scan_images
from megavit.data.shards.open import is_shards
from megavit.data.sources.folder import list_folder
from megavit.data.sources.metadata import list_metadata
from megavit.data.sources.records.parquet import find_parquet
from megavit.data.sources.tree import FolderTree
from megavit.errors import DataError

MIN_IMAGES = 16
NO_CLASS = ""
"""Class of images without one."""

_SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class UnlabeledImages:
    """Images to label by prediction, out of `images`, and those refused with the reason."""

    images: LabeledImages
    samples: tuple[Sample, ...]
    refused: tuple[Skipped, ...]

    def refused_by_reason(self) -> dict[str, int]:
        """Return the number of refused images by reason, the most frequent first."""
        return dict(Counter(one.reason for one in self.refused).most_common())


def select_new_images(images: LabeledImages, labeled: LabeledImages) -> UnlabeledImages:
    """Return the images without labels that are not among the labeled ones, and that the same model takes.

    Raises:
        DataError: if there are none.
    """
    splits = {sample.digest: sample.split for sample in labeled.samples}
    wanted = labeled.samples[0].channels
    wanted = 3 if wanted in (1, 3, 4) else wanted
    chosen: list[Sample] = []
    seen: set[str] = set()
    refused = [*images.skipped]
    for sample in images.samples:
        reason = ""
        if sample.digest in splits:
            reason = f"the same file as a {_SPLIT_NAMES[splits[sample.digest]]} image"
        elif sample.digest in seen:
            reason = "the same file as another image without a label"
        elif not can_convert_channels(sample.channels, wanted):
            reason = f"{sample.channels} channels, but the labeled images have {wanted}"
        if reason:
            refused.append(Skipped(sample.name, reason))
        else:
            chosen.append(sample)
            seen.add(sample.digest)
    found = UnlabeledImages(images, tuple(chosen), tuple(refused))
    if not chosen:
        reasons = "; ".join(f"{count:,}: {reason}" for reason, count in found.refused_by_reason().items())
        raise DataError(
            f"no image of {images.source!r} can be used without its label ({reasons}): pass other images with "
            "--unlabeled, or leave it out"
        )
    return found


def load_unlabeled(source: DataSource, recipe: DataRecipe, progress: Progress | None = None) -> LabeledImages:
    """Load all images of a folder of any structure, of shards, a table or Python objects as training images.

    Classes are kept where every image has one, to judge embeddings by, else all images are of one. Images that the
    source defines as those to test on are left out.

    Raises:
        DataError: if the source cannot be read or has fewer than `MIN_IMAGES` images.
    """
    text = name_source(source)
    if _is_plain_folder(source, recipe):
        listing = _list_any_folder(Path(source))
        found = scan_images(listing, progress)
    else:
        listing, found = scan_source(source, recipe, progress)
    pairs = list(zip(listing.candidates, found, strict=True))
    usable, odd = separate_odd_channels([(one, info) for one, info in pairs if isinstance(info, ImageInfo)])
    skipped = [(candidate, reason) for candidate, reason in pairs if isinstance(reason, str)] + odd
    named = {str(candidate.target) for candidate, _ in usable}
    has_classes = listing.target == "classification" and len(named) > 1 and NO_CLASS not in named
    classes = tuple(sorted(named)) if has_classes else (NO_CLASS,)
    indices = {name: index for index, name in enumerate(classes)}
    samples = [
        Sample(
            candidate.name,
            indices[str(candidate.target)] if has_classes else 0,
            "train",
            info.height,
            info.width,
            info.channels,
            info.digest,
            candidate.location,
            info.stamp,
        )
        for candidate, info in usable
        if candidate.split != "test"
    ]
    if len(samples) < MIN_IMAGES:
        raise DataError(
            f"{text!r} has {len(samples)} images to learn from without labels, but at least {MIN_IMAGES} are needed"
        )
    left_out = len(usable) - len(samples)
    memory = {name: image for name, image in listing.memory.items() if not isinstance(image, Exception)}
    return LabeledImages(
        text,
        listing.root,
        classes,
        tuple(sorted(samples, key=lambda sample: sample.name)),
        (*listing.skipped, *(Skipped(candidate.name, reason) for candidate, reason in skipped)),
        f"without labels; {left_out:,} test images were left out" if left_out else "without labels",
        {sample.name: memory[sample.name] for sample in samples if sample.name in memory},
        on_corrupt=recipe.on_corrupt,
        notes=listing.notes,
        recipe=recipe,
    )


def _is_plain_folder(source: DataSource, recipe: DataRecipe) -> bool:
    """Return whether a source is a folder without shards or tables."""
    if not is_named(source) or is_shards(os.fspath(source)) or not Path(source).is_dir():
        return False
    return list_metadata(Path(source), recipe) is None and not find_parquet(Path(source))


def _list_any_folder(root: Path) -> Listing:
    """Return all files below `root`, of which those outside of class folders are of the class `NO_CLASS`."""
    try:
        known = {candidate.name: candidate for candidate in list_folder(root).candidates}
    except DataError:
        known = {}
    tree = FolderTree(root)
    candidates = tuple(known.get(name, Candidate(name, NO_CLASS, None)) for name in tree.walk("", set()))
    return Listing(root, (NO_CLASS,), candidates, tuple(tree.skipped))
