"""Find the folder that the paths in a table are relative to."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from megavit.config.names import abbreviate
from megavit.data.file_names import IMAGE_SUFFIXES, is_hidden
from megavit.errors import DataError

SAMPLE = 50  # number of a table's first images that decide
_MAX_FOLDERS = 1_000  # number of folders that are searched
_MAX_DEPTH = 3
_ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "label", "metadata", "meta", "splits")


class ImageRoot(NamedTuple):
    """Where the images of a table are.

    Attributes:
        folder: folder that their paths are relative to, relative to the table's; "" for that itself.
        prefix: beginning of the paths, with "/", that is left out first, as it is a folder of another machine.
    """

    folder: str
    prefix: str = ""


def find_image_root(table_folder: Path, paths: Sequence[str], image_root: str | None, source: str) -> ImageRoot:
    """Return the folder that paths are relative to.

    Without `image_root`, it is the table's folder if that has any of the images, or else the only folder below it that
    has all of them, with or without the suffixes of their names, or if there is none and the table is in
    a folder such as annotations, the only one beside that. If no folder has them, folders at the beginning of all paths
    are left out, as few as possible, so that one has.

    Args:
        paths: some paths in the table.
        image_root: folder given by the user.
        source: name of the table, for errors.

    Raises:
        DataError: if `image_root` is not a folder, or several folders have the images.
    """
    if image_root is not None and not Path(image_root).is_dir():
        raise DataError(f"the folder of the images {image_root!r}, as --image-root says, is not a folder")
    chosen = "" if image_root is None else _relative(Path(image_root), table_folder)
    paths = [path.strip().replace("\\", "/") for path in paths]
    if not paths or any(_has(table_folder / chosen, path) for path in paths):
        return ImageRoot(chosen)
    below, beside = [chosen], list[str]()
    if image_root is None:
        below, beside = ["", *_folders(table_folder, _MAX_DEPTH)], [*_folders_beside(table_folder)]

    def fitting(folders: Iterable[str], paths: Sequence[str]) -> list[str]:
        return [folder for folder in folders if all(_has(table_folder / folder, path) for path in paths)]

    for prefix in ("", *_prefixes(paths)):
        rest = [path.removeprefix(prefix) for path in paths]
        found = fitting(below, rest) or fitting(beside, rest)
        if len(found) > 1:
            raise DataError(
                f"the images that {source!r} lists, such as {paths[0]!r}, are in several folders, "
                f"{abbreviate([folder or '.' for folder in found], 5)}: pass the one to use with --image-root"
            )
        if found:
            return ImageRoot(found[0], prefix)
    return ImageRoot(chosen)


def _prefixes(paths: Sequence[str]) -> Iterator[str]:
    """Yield the folders that all paths begin with, the shortest first, with "/" at the end."""
    prefix = ""
    for folder in paths[0].split("/")[:-1]:
        prefix += f"{folder}/"
        if not all(path.startswith(prefix) for path in paths):
            return
        yield prefix


def _relative(folder: Path, start: Path) -> str:
    try:
        path = os.path.relpath(folder.absolute(), start.absolute())
    except ValueError:  # on another drive of Windows
        return folder.absolute().as_posix()
    return "" if path == "." else PurePosixPath(Path(path)).as_posix()


def _has(folder: Path, path: str) -> bool:
    """Return whether a folder has a file of this name, or of this name without suffix."""
    start = os.path.join(folder, path)  # noqa: PTH118 - many names
    return os.path.isfile(start) or any(os.path.isfile(f"{start}.{suffix}") for suffix in _suffixes())  # noqa: PTH113


def _suffixes() -> Iterable[str]:
    return (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))


def _folders_beside(folder: Path) -> Iterator[str]:
    """Yield the parent of a folder of annotations and the folders in it, relative to the folder."""
    if folder.absolute().name.lower() not in _ANNOTATION_FOLDERS:
        return
    yield ".."
    yield from (f"../{name}" for name in _folders(folder / "..", 1) if name != folder.absolute().name)


def _folders(root: Path, max_depth: int) -> Iterator[str]:
    """Yield the folders below one, the nearest first, without hidden ones."""
    pending, count = [("", 0)], 0
    while pending:
        folder, depth = pending.pop(0)
        try:
            with os.scandir(root / folder) as entries:
                inner = sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())
        except OSError:
            continue
        for name in inner:
            path = f"{folder}/{name}" if folder else name
            count += 1
            if count > _MAX_FOLDERS:
                return
            yield path
            if depth + 1 < max_depth:
                pending.append((path, depth + 1))
