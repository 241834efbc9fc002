"""Make class folders of labeled images, by links or copies."""

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from megavit.config.names import abbreviate
from megavit.data.file_names import is_hidden
from megavit.data.load import check_outside_data
from megavit.data.sources.label_log import LABEL_LOG, list_label_log
from megavit.data.split.split_names import parse_split
from megavit.errors import ConfigError, DataError, OutputError
from megavit.runtime.storage import new_folder, writing

_RESERVED = frozenset('<>:"/\\|?*')


@dataclass(frozen=True)
class ClassFolders:
    """What was made: the folder, its number of images by class, and the names of images that are no longer there."""

    folder: Path
    counts: dict[str, int]
    missing: tuple[str, ...]


def make_class_folders(folder: Path, out: Path, *, copy: bool = False) -> ClassFolders:
    """Make a folder with a subfolder for each class, which links to its labeled images or has copies of them.

    Images of subfolders get their path as a name, as in "summer__1.jpg". Links are hard links where the file system
    has them, and symbolic ones elsewhere.

    Raises:
        ConfigError: if images have several labels.
        DataError: if the log is damaged, or a class cannot be the name of a folder.
        OutputError: if `out` is not empty, is within `folder`, or cannot be written.
    """
    listing = list_label_log(folder / LABEL_LOG)
    if listing.target != "classification":
        raise ConfigError(
            "an image with several labels cannot be in one class folder: megavit train reads labels.csv as it is"
        )
    unusable = [name for name in listing.classes if not _is_folder_name(name)]
    if unusable:
        raise DataError(
            f"no folder can be named {abbreviate(unusable, 3)}: megavit train reads labels.csv as it is, or give these "
            "images a class of another name"
        )
    with writing("the class folders", out):
        if out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out} is not empty: choose a new folder with --apply")
    check_outside_data(out, folder)
    counts: Counter[str] = Counter()
    missing: list[str] = []
    used: set[tuple[str, str]] = set()
    with writing("the class folders", out), new_folder(out) as part:
        for label in listing.classes:
            (part / label).mkdir()
        for candidate in listing.candidates:
            (label,) = candidate.names
            source = folder / candidate.name
            if not source.is_file():
                missing.append(candidate.name)
                continue
            target = part / label / _flat_name(candidate.name, label, used)
            if copy:
                shutil.copy2(source, target)
            else:
                _link(source, target)
            counts[label] += 1
    return ClassFolders(out, dict(counts), tuple(missing))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # on another device, or not supported
        target.symlink_to(source.resolve())


def _flat_name(name: str, label: str, used: set[tuple[str, str]]) -> str:
    """Return the name of a file in its class folder, which no other file has, whatever its case."""
    flat = "__".join(part for part in PurePosixPath(name).parts if part not in ("..", "/"))
    path, number = PurePosixPath(flat), 2
    while (label, flat.casefold()) in used:
        flat, number = f"{path.stem}__{number}{path.suffix}", number + 1
    used.add((label, flat.casefold()))
    return flat


def _is_folder_name(name: str) -> bool:
    """Return whether a class can be a folder's name on any system, and is read as a class from there."""
    has_reserved = not _RESERVED.isdisjoint(name) or name.endswith((".", " "))
    return not has_reserved and not is_hidden(name) and parse_split(name) is None
