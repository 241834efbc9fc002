"""Load labeled images from a folder, a table, shards, a demo set, or Python objects."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from megavit.config.names import canonical, find_look_alikes, show_code_points
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample, Skipped
from megavit.data.decode.extras import NEEDS_EXTRA
from megavit.data.decode.image_file import NO_FILE
from megavit.data.other_files import refuse
from megavit.data.scan import Candidate, ImageInfo, Listing, Progress, scan_images
from megavit.data.shards.listing import list_shards
from megavit.data.shards.open import check_not_nearly_shards, is_shards
from megavit.data.shards.verify import Verify
from megavit.data.sources.demo import DEMO_PREFIX, DEMOS, read_demo
from megavit.data.sources.folder import list_folder
from megavit.data.sources.label_log import LABEL_LOG, is_label_log, list_label_log
from megavit.data.sources.metadata import list_metadata
from megavit.data.sources.records.files import RECORD_SUFFIXES, list_parquet, list_record_file
from megavit.data.sources.records.hugging_face import HUB_PREFIX, list_hub
from megavit.data.sources.records.memory import IN_MEMORY, list_memory
from megavit.data.sources.records.parquet import find_parquet
from megavit.data.sources.table import DEFAULTS, list_table
from megavit.data.sources.table_options import Table
from megavit.data.split.split import complete_splits
from megavit.data.split.stratify import stratify
from megavit.data.targets import index_target
from megavit.errors import DataError, OutputError

TABLES = (".csv", ".tsv")
OTHER_CHANNELS = "channels, but most images have"

Scanned = Sequence[tuple[Candidate, ImageInfo]]

DataSource = str | os.PathLike[str] | Any
"""A path, a `Table`, a name such as demo:digits, or Python objects as in `megavit.data.sources.records.memory`."""


@dataclass(frozen=True)
class ScannedData:
    """A data source whose images have been read once, to be split in several ways: see `scan_source`."""

    source: DataSource
    listing: Listing
    found: Sequence[ImageInfo | str] = field(repr=False)


def scan_once(source: DataSource, recipe: DataRecipe, progress: Progress | None = None) -> DataSource:
    """Return data that `load_data` splits without reading it again; the name of a demo set stays as it is.

    Raises:
        DataError: as in `load_data`, except for classes without images.
    """
    if name_source(source).startswith(DEMO_PREFIX):
        return source
    return ScannedData(source, *scan_source(source, recipe, progress, verify="none"))


def load_data(
    source: DataSource,
    recipe: DataRecipe,
    progress: Progress | None = None,
    *,
    required_splits: Sequence[str] = (),
    verify: Verify = "held-out",
    known_classes: Collection[str] | None = None,
) -> LabeledImages:
    """Load images from a folder of class folders, a table, shards, a demo set, or Python objects.

    Every image of a folder or table, or in memory, is decoded once. Unreadable images are skipped with a reason, as
    are those whose number of channels differs from most images (1, 3 and 4 count as one). The index of shards has this
    information already. Splits defined by the data are used; missing ones are drawn from train.

    Args:
        required_splits: splits that must get images; checked before any image is read.
        verify: shards to compare with their index, to leave out damaged images: "all", "held-out" (validation and
            test, or all without such shards), or "none" (damaged images are replaced when read, which leaves the
            samples of a resumed run unchanged).
        known_classes: classes of the model to evaluate; one of them suffices, and training images are not needed.

    Raises:
        DataError: if fewer than two classes have images, or a shard is damaged and `recipe.on_corrupt` is "fail".
    """
    text = name_source(source)
    if not text.strip():
        raise DataError("the name of the data is empty: pass a path, or . for the current folder")
    known = None if known_classes is None else {canonical(name) for name in known_classes}

    def check_splits(present: set[str | None]) -> None:
        shares = {"val": recipe.val, "test": recipe.test if recipe.fold is None else 1.0}
        for split in required_splits:
            if split not in present and shares.get(split) == 0:
                raise DataError(
                    f"{text!r} has no {split} images of its own, and [data] {split} = 0 holds none out: "
                    f"set a share such as {split} = 0.1"
                )

    if text.startswith(DEMO_PREFIX):
        check_splits(set())
        return read_demo(text, recipe)
    if isinstance(source, ScannedData):
        check_splits({candidate.split for candidate in source.listing.candidates})
        listing, found = source.listing, source.found
    else:
        listing, found = scan_source(
            source, recipe, progress, verify=verify, check_splits=check_splits, known_classes=known
        )
    return _assemble(text, listing, found, apply_columns(recipe, source), evaluated=known is not None)


def scan_source(
    source: DataSource,
    recipe: DataRecipe = DEFAULTS,
    progress: Progress | None = None,
    *,
    verify: Verify = "held-out",
    check_splits: Callable[[set[str | None]], None] = lambda _: None,
    known_classes: Collection[str] | None = None,
) -> tuple[Listing, list[ImageInfo | str]]:
    """Return the candidates in a data source, and for each its properties or why it cannot be used.

    Args:
        check_splits: function called with the splits found, before any image is read.
        known_classes: as in `load_data`, in canonical form.

    Raises:
        DataError: as in `load_data`, except for classes without images.
    """
    recipe = apply_columns(recipe, source)
    if not is_named(source):
        listing = list_memory(source, recipe)
        check_splits({candidate.split for candidate in listing.candidates})
        return listing, scan_images(listing, progress)
    text, path = os.fspath(source), Path(source)
    if is_shards(text):
        listing, infos = list_shards(text, recipe.on_corrupt, progress, verify)
        check_splits({candidate.split for candidate in listing.candidates})
        return listing, infos
    if text.startswith(HUB_PREFIX):
        listing = list_hub(text, recipe)
        check_splits({candidate.split for candidate in listing.candidates})
        return listing, scan_images(listing, progress)
    check_not_nearly_shards(text)
    if path.is_file() and path.suffix.lower() in TABLES:
        listing = list_label_log(path) if _is_log(path, recipe) else list_table(path, recipe)
    elif path.is_file() and path.suffix.lower() in RECORD_SUFFIXES:
        listing = list_record_file(path, recipe)
    elif path.is_dir():
        listing = _list_folder(path, recipe, known_classes)
    else:
        tables = f"a table ({', '.join((*TABLES, *RECORD_SUFFIXES))})"
        demos = [DEMO_PREFIX + demo for demo in DEMOS]
        raise refuse(text, ["a folder", tables, "shards", f"{HUB_PREFIX}NAME", *demos])
    check_splits({candidate.split for candidate in listing.candidates})
    return listing, scan_images(listing, progress)


def _list_folder(path: Path, recipe: DataRecipe, known_classes: Collection[str] | None) -> Listing:
    if _is_log(path / LABEL_LOG, recipe):
        return list_label_log(path / LABEL_LOG)
    listing = list_metadata(path, recipe)
    if listing is not None:
        return listing
    files = find_parquet(path)
    if files:
        return list_parquet(files, str(path), path, recipe)
    return list_folder(path, known_classes)


def _is_log(path: Path, recipe: DataRecipe) -> bool:
    return recipe.path_column is None and recipe.label_column is None and is_label_log(path)


def apply_columns(recipe: DataRecipe, source: DataSource) -> DataRecipe:
    """Return the settings to read data with, of which a `Table` replaces some."""
    if isinstance(source, ScannedData):
        return apply_columns(recipe, source.source)
    return replace(recipe, **source.settings) if isinstance(source, Table) else recipe


def is_named(source: DataSource) -> bool:
    """Return whether data is given by a path or name, and not as Python objects."""
    return isinstance(source, str | os.PathLike)


def name_source(source: DataSource) -> str:
    """Return the path or name of data, which is `IN_MEMORY` for Python objects."""
    if isinstance(source, ScannedData):
        return name_source(source.source)
    return os.fspath(source) if is_named(source) else IN_MEMORY


def check_outside_data(out: Path, source: DataSource) -> None:
    """Raise an OutputError if an output folder is within a folder of images, where it would become a class."""
    if not is_named(source):
        return
    data, name = Path(source), os.fspath(source)
    if not name.startswith(DEMO_PREFIX) and data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise OutputError(
            f"{out} is inside the data folder {source} and would become one of its classes: choose a folder outside it "
            "with --out"
        )


def _assemble(
    source: str, listing: Listing, found: Sequence[ImageInfo | str], recipe: DataRecipe, *, evaluated: bool
) -> LabeledImages:
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
    usable, odd_channels = _separate_odd_channels(
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


def _separate_odd_channels(
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
