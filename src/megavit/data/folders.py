"""Class folders: ROOT/class/**/image, or ROOT/{train,val,test}/class/**/image."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from megavit.data.listing import Candidate, Listing
from megavit.data.samples import SPLIT_NAMES, Skipped
from megavit.errors import DataError

EXPECTED = """Expected a folder for each class, such as
  DATA/cat/1.jpg
  DATA/dog/2.jpg
or the same in folders named train, val and test, such as
  DATA/train/cat/1.jpg
  DATA/val/cat/3.jpg"""

_HIDDEN = ("thumbs.db", "desktop.ini", "__macosx")


def list_folder(root: Path) -> Listing:
    """Every file below the class folders of `root`, in order of names; none is opened.

    A class is the first folder below the root, or below a folder named after a split (`SPLIT_NAMES`, in
    any case); folders within belong to it. Links are followed, but no folder is entered twice for one
    class. Hidden files and folders, broken links, special files and files outside a class are skipped.

    Raises:
        DataError: where the root is missing, not a folder or empty, or has no class folders, or where
            splits and classes cannot be told apart.
    """
    _check_root(root)
    skipped: list[Skipped] = []
    folders, files = _look(root, "", skipped)
    if not folders and not files:
        raise DataError(f"the folder {str(root)!r} is empty. {EXPECTED}")
    splits = _splits(root, folders)
    class_folders: list[tuple[str | None, str, str]] = []  # split, class, folder
    if splits:
        for folder, split in splits.items():
            inner, loose = _look(root, folder, skipped)
            files += loose
            class_folders += [(split, name.rpartition("/")[2], name) for name in inner]
    else:
        class_folders = [(None, name, name) for name in folders]
    if not class_folders:
        raise DataError(f"the folder {str(root)!r} has files, such as {files[0]!r}, but no class folders. {EXPECTED}")
    skipped += [Skipped(name, "outside any class folder") for name in files]

    above = {_identity(root, name) for name in ("", *splits)}
    candidates = [
        Candidate(name, label, split)
        for split, label, folder in class_folders
        for name in _walk(root, folder, set(above), skipped)
    ]
    classes = tuple(sorted({label for _, label, _ in class_folders}))
    return Listing(root, classes, tuple(candidates), tuple(skipped))


def _check_root(root: Path) -> None:
    if not root.exists():
        raise DataError(f"there is nothing at {str(root)!r}. {EXPECTED}")
    if not root.is_dir():
        raise DataError(f"{str(root)!r} is a file, not a folder. {EXPECTED}")
    try:
        os.scandir(root).close()
    except OSError as error:
        raise DataError(f"the folder {str(root)!r} cannot be read: {error.strerror}") from error


def _splits(root: Path, folders: list[str]) -> dict[str, str]:
    """Which top folders are splits, and of what; none where all are classes, one of which may be "train"."""
    named = {folder: SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES}
    others = [folder for folder in folders if folder not in named]
    if not named or not any(_look(root, folder, [])[0] for folder in named):
        if named and not others:
            raise DataError(
                f"the folder {str(root)!r} has {', '.join(map(repr, named))}, but no class folders within. {EXPECTED}"
            )
        return {}
    if others:
        raise DataError(
            f"the folder {str(root)!r} has {', '.join(map(repr, named))}, with folders within as if these were "
            f"splits, and also {', '.join(map(repr, others[:5]))}: move the one or the other elsewhere. {EXPECTED}"
        )
    if "train" not in named.values():
        raise DataError(f"the folder {str(root)!r} has {', '.join(map(repr, named))}, but no train. {EXPECTED}")
    return named


def _walk(root: Path, top: str, seen: set[tuple[int, int]], skipped: list[Skipped]) -> Iterator[str]:
    """The files below `top`; `seen` holds the folders that must not be entered (again)."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            identity = _identity(root, folder)
        except OSError as error:
            skipped.append(Skipped(folder, _reason(error)))
            continue
        if identity in seen:
            skipped.append(Skipped(folder, "a link to a folder that is read already"))
            continue
        seen.add(identity)
        folders, files = _look(root, folder, skipped)
        yield from files
        waiting += reversed(folders)


def _look(root: Path, folder: str, skipped: list[Skipped]) -> tuple[list[str], list[str]]:
    """The folders and the files in a folder, by name; the rest goes to `skipped`."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(root / folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        skipped.append(Skipped(folder, _reason(error)))
        return folders, files
    for entry in found:
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith(".") or entry.name.lower() in _HIDDEN:
            skipped.append(Skipped(name, "hidden"))
            continue
        try:
            if entry.is_dir():
                folders.append(name)
            elif entry.is_file():
                files.append(name)
            else:
                entry.stat()  # says what is wrong with a link
                skipped.append(Skipped(name, "not a regular file"))
        except OSError as error:
            skipped.append(Skipped(name, _reason(error)))
    return folders, files


def _identity(root: Path, folder: str) -> tuple[int, int]:
    status = (root / folder).stat()
    return status.st_dev, status.st_ino


def _reason(error: OSError) -> str:
    known = {
        errno.ENOENT: "a broken link",
        errno.ELOOP: "a link that leads to itself",
        errno.EACCES: "no permission to read it",
    }
    return known.get(error.errno or 0, (error.strerror or "cannot be read").lower())
