"""Check what was listed and read, draw the missing splits, and put the labeled images together."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch

from megavit.config.names import find_look_alikes, show_code_points
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample, Skipped
from megavit.data.decode.extras import NEEDS_EXTRA
from megavit.data.decode.image_file import NO_FILE
from megavit.data.scan import Candidate, ImageInfo, Listing
from megavit.data.split.split import complete_splits
from megavit.data.split.stratify import stratify
from megavit.data.targets import index_target
from megavit.errors import DataError

OTHER_CHANNELS = "channels, but most images have"

Scanned = Sequence[tuple[Candidate, ImageInfo]]


def assemble(
    source: str, listing: Listing, found: Sequence[ImageInfo | str], recipe: DataRecipe, *, evaluated: bool
) -> LabeledImages:
    """Return the usable images of a listing with their splits; the others are skipped with a reason.

    Args:
        found: properties of each candidate, or why it cannot be used.
        evaluated: whether a model is only evaluated on them: one class suffices, and training images are not needed.

    Raises:
        DataError: if there are too few classes, or one has no images.
    """
    if listing.target == "multilabel" and not listing.classes:
        raise DataError(f"no image of {source!r} has a label: fill in the column labels, such as with cat|indoors")
    if listing.target == "classification" and len(listing.classes) < 2 and not evaluated:
        raise DataError(
            f"{source!r} has only one class, {listing.classes[0]!r}; a classifier needs at least two"
            f"{_suggest_inner_folder(listing)}"
        )
    pairs = list(zip(listing.candidates, found, strict=True))
    unusable = [(candidate, reason) for candidate, reason in pairs if isinstance(reason, str)]
    _check_extras(source, [reason for _, reason in unusable], len(pairs))
    usable, odd_channels = separate_odd_channels(
        [(candidate, info) for candidate, info in pairs if isinstance(info, ImageInfo)]
    )
    unusable += odd_channels
    _check_classes(source, listing.classes, [candidate for candidate, _ in usable], unusable, evaluated)

    usable.sort(key=lambda pair: pair[0].name)
    kept_aside = sum(candidate.split == "test" for candidate, _ in usable) if recipe.fold is not None else 0
    if kept_aside:
        usable = [pair for pair in usable if pair[0].split != "test"]
    digests = [info.digest for _, info in usable]
    splits, split_description = complete_splits(
        [candidate.split for candidate, _ in usable],
        stratify([candidate.target for candidate, _ in usable], digests),
        digests,
        recipe,
        listing.target,
    )
    if kept_aside:
        split_description += f"; {kept_aside:,} test images as defined by the data are in no fold"
    indices = {name: index for index, name in enumerate(listing.classes)}
    samples = tuple(
        Sample(
            candidate.name,
            index_target(candidate.target, indices),
            split,
            info.height,
            info.width,
            info.channels,
            info.digest,
            candidate.location,
            info.stamp,
        )
        for (candidate, info), split in zip(usable, splits, strict=True)
    )
    return LabeledImages(
        source,
        listing.root,
        listing.classes,
        samples,
        (*listing.skipped, *(Skipped(candidate.name, reason) for candidate, reason in unusable)),
        split_description,
        {
            sample.name: image
            for sample in samples
            if isinstance(image := listing.memory.get(sample.name), torch.Tensor | bytes)
        },
        target=listing.target,
        on_corrupt=recipe.on_corrupt,
        notes=listing.notes,
        recipe=recipe,
    )


def _check_extras(source: str, reasons: Sequence[str], images: int) -> None:
    """Raise a DataError if most images could be read with a package that is not installed."""
    missing = Counter(reason for reason in reasons if reason.startswith(NEEDS_EXTRA))
    if 2 * missing.total() > images:
        ((reason, count),) = missing.most_common(1)
        raise DataError(f"{count:,} of the {images:,} images of {source!r} cannot be read yet: {reason}")


def _suggest_inner_folder(listing: Listing) -> str:
    names = (candidate.name.split("/") for candidate in listing.candidates)
    folders = sorted({tuple(parts[:2]) for parts in names if len(parts) > 2})
    if len(folders) < 2 or listing.root is None:
        return ""
    inner = ", ".join(repr(name) for _, name in folders[:3])
    return f". If the folders in it, {inner}, are the classes, pass {str(listing.root / folders[0][0])!r}"


def separate_odd_channels(
    usable: Scanned,
) -> tuple[list[tuple[Candidate, ImageInfo]], list[tuple[Candidate, str]]]:
    """Split images into those with the usual number of channels and the others; 1, 3 and 4 count as one."""

    def kind(info: ImageInfo) -> int:
        return 3 if info.channels in (1, 3, 4) else info.channels

    kinds = Counter(kind(info) for _, info in usable)
    usual = max(kinds, key=lambda kind: (kinds[kind], kind), default=0)
    wanted = "1, 3 or 4" if usual == 3 else str(usual)
    return [pair for pair in usable if kind(pair[1]) == usual], [
        (candidate, f"{info.channels} {OTHER_CHANNELS} {wanted}") for candidate, info in usable if kind(info) != usual
    ]


def _check_classes(
    source: str,
    classes: Sequence[str],
    usable: Sequence[Candidate],
    unusable: Sequence[tuple[Candidate, str]],
    evaluated: bool,
) -> None:
    """Raise a DataError for a class whose name is not text, or that has no readable or no training image."""
    for name in classes:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are not UTF-8
            raise DataError(f"the class {name!r} of {source!r} has a name that is not valid UTF-8: rename its folder")
    if evaluated and usable:
        return
    if not usable and unusable and all(reason == NO_FILE for _, reason in unusable):
        raise DataError(
            f"none of the {len(unusable):,} images that {source!r} lists is there, such as {unusable[0][0].name!r}: "
            "pass the folder that its paths are relative to with --image-root"
        )
    readable = {name for candidate in usable for name in candidate.names}
    reasons: dict[str, list[str]] = defaultdict(list)
    for candidate, reason in unusable:
        for name in candidate.names:
            reasons[name].append(f"{candidate.name!r}: {reason}")
    for name in classes:
        if name not in readable:
            why = f"; {'; '.join(reasons[name][:3])}" if reasons[name] else ""
            raise DataError(
                f"the class {name!r} of {source!r} has no readable image{why}. Add images to it, or remove the class"
            )
    in_train = {name for candidate in usable if candidate.split in (None, "train") for name in candidate.names}
    not_in_train = [name for name in classes if name not in in_train]
    if not_in_train:
        look_alikes = next((group for group in find_look_alikes(classes) if set(group) & set(not_in_train)), None)
        hint = f". Are they the same class: {show_code_points(look_alikes)}?" if look_alikes else ""
        raise DataError(
            f"{source!r} has images of {', '.join(map(repr, not_in_train[:5]))} for validation or test, but none that "
            f"can be read for training. Add some to train, or remove the class{hint}"
        )
