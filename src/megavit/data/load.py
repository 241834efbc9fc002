"""Load labeled images from a folder, a table, shards, a demo set, or Python objects."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from megavit.config.names import canonical
from megavit.config.recipe import DataRecipe
from megavit.data.assemble import assemble
from megavit.data.byte_range import is_url
from megavit.data.dataset import LabeledImages
from megavit.data.other_files import refuse
from megavit.data.scan import ImageInfo, Listing, Progress, scan_images
from megavit.data.shards.index import is_tar
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
from megavit.data.sources.tree import list_class_folder
from megavit.errors import DataError, OutputError

TABLES = (".csv", ".tsv")

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
    return assemble(text, listing, found, apply_columns(recipe, source), evaluated=known is not None)


def load_class_folder(folder: Path, recipe: DataRecipe, progress: Progress | None = None) -> LabeledImages:
    """Load the images of one class from a folder that is named after it; splits are as in `load_data`.

    Raises:
        DataError: if there are none, or the folder seems to hold several classes.
    """
    listing = list_class_folder(folder)
    found = scan_images(listing, progress)
    images = assemble(str(folder), listing, found, recipe, evaluated=True)
    if not images.samples:
        reasons = "; ".join(f"{skipped.name!r}: {skipped.reason}" for skipped in images.skipped[:3])
        raise DataError(f"{str(folder)!r} has no readable image; {reasons}")
    return images


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


def is_reachable(source: str) -> bool:
    """Return whether a recorded source is a file or folder that exists, or one that is not on this machine."""
    path = Path(source).parent if is_tar(source) else Path(source)
    return source.startswith((DEMO_PREFIX, HUB_PREFIX)) or is_url(source) or path.exists()


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
