"""Class folders: which files belong to which class and split."""

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from megavit.config.names import canonical, show_code_points
from megavit.data.dataset import Skipped
from megavit.data.listing import Candidate, Listing
from megavit.data.sources.class_folders import EXPECTED, ClassFolder, find_classes
from megavit.data.sources.tree import FolderTree
from megavit.errors import DataError

OUTSIDE = "outside any class folder"
"""Why a file beside the class folders is skipped."""


def list_folder(root: Path, known: Collection[str] | None = None) -> Listing:
    """Every file below the class folders of `root`, in order of names; none is opened.

    Which folders are classes, `megavit.data.sources.class_folders` says; folders within a class belong to it. Links are
    followed, but no folder is entered twice for one class. Hidden files and folders, those that systems keep, broken
    links, special files, files outside a class, and what megavit has written are skipped.

    Args:
        known: the classes' names, in canonical form, where a model knows them: then one class is enough.

    Raises:
        DataError: where the root is missing, not a folder or empty, or has no class folders, or where
            splits and classes cannot be told apart.
    """
    _check_root(root)
    tree = FolderTree(root)
    if not any(tree.look("")):
        raise DataError(f"the folder {str(root)!r} is empty. {EXPECTED}")
    found = find_classes(tree, known)
    written = [inner for folder in found.above for inner in tree.look(folder)[0] if tree.is_written(inner)]
    outside = [file for folder in found.above for file in tree.take(folder)[1]]
    if not found.classes:
        such = f"has files, such as {outside[0]!r}, but no" if outside else "has no"
        raise DataError(f"the folder {str(root)!r} {such} class folders. {EXPECTED}")

    above = {tree.identity(folder) for folder in found.above}
    candidates = [
        Candidate(name, one.label, one.split) for one in found.classes for name in tree.walk(one.folder, set(above))
    ]
    for folder in written:
        outside += tree.walk(folder, set(above))
    skipped = (*(Skipped(name, OUTSIDE) for name in outside), *tree.skipped)
    classes = tuple(sorted({one.label for one in found.classes}))
    return Listing(root, classes, tuple(candidates), skipped, notes=(*found.notes, *_joined(found.classes)))


def _joined(folders: list[ClassFolder]) -> list[str]:
    """Says which folders are one class though their names are not the same characters."""
    written: dict[str, set[str]] = defaultdict(set)
    for one in folders:
        written[one.label].update(part for part in one.folder.split("/") if canonical(part) == one.label)
    return [
        f"{show_code_points(sorted(names))} are one class: they are two forms of the same text"
        for names in written.values()
        if len(names) > 1
    ]


def _check_root(root: Path) -> None:
    if not root.exists():
        raise DataError(f"there is nothing at {str(root)!r}. {EXPECTED}")
    if not root.is_dir():
        raise DataError(f"{str(root)!r} is a file, not a folder. {EXPECTED}")
    try:
        os.scandir(root).close()
    except OSError as error:
        raise DataError(f"the folder {str(root)!r} cannot be read: {error.strerror}") from error
