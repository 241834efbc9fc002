"""Walk folders of images, reading each folder once and skipping what is not an image; list one folder as a class."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from megavit.config.names import canonical
from megavit.data.dataset import Skipped
from megavit.data.file_names import EXPLANATION_SUFFIX, HIDDEN, WRITTEN, is_hidden, is_written
from megavit.data.scan import Candidate, Listing
from megavit.data.split.split_names import find_split_folders
from megavit.errors import DataError

ALREADY_READ = "a link to a folder that was already read"
_MAX_DEPTH = 4  # depth of nested folders that are checked for containing only files written by megavit


class FolderTree:
    """A tree of the folders and files below `root`, named relative to it with "/".

    Links are followed. Hidden and system files, broken links, special files, and files written by megavit are left
    out, and added to `skipped` when their folder is taken.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[Skipped] = []
        self._read_folders: dict[str, tuple[list[str], list[str]]] = {}
        self._unreported: dict[str, list[Skipped]] = {}
        self._written: set[str] = set()

    def read(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the folders and the files in a folder, in order of names."""
        if folder not in self._read_folders:
            self._unreported[folder] = []
            self._read_folders[folder] = self._scan_folder(folder, self._unreported[folder])
        return self._read_folders[folder]

    def pop(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the folders and files in a folder and free its cache, since it may have a million names."""
        found = self.read(folder)
        self.skipped += self._unreported.pop(folder)
        del self._read_folders[folder]
        return found

    def folders(self, folder: str) -> list[str]:
        """Return the subfolders that contain anything not written by megavit."""
        return [inner for inner in self.read(folder)[0] if not self.is_written(inner)]

    def is_written(self, folder: str, depth: int = _MAX_DEPTH) -> bool:
        """Return whether everything in a folder was written by megavit."""
        folders, files = self.read(folder)
        if folder in self._written:
            return True
        written = (
            bool(folders) and not files and depth > 0 and all(self.is_written(inner, depth - 1) for inner in folders)
        )
        if written:
            self._written.add(folder)
        return written

    def walk(self, top: str, entered: set[tuple[int, int]]) -> Iterator[str]:
        """Yield the files below `top`, without the folders in `entered`, to which those visited are added."""
        pending = [top]
        while pending:
            folder = pending.pop()
            try:
                identity = self.identity(folder)
            except OSError as error:
                self.skipped.append(Skipped(folder, _reason(error)))
                continue
            if identity in entered:
                self.skipped.append(Skipped(folder, ALREADY_READ))
                continue
            entered.add(identity)
            folders, files = self.pop(folder)
            yield from files
            pending += reversed(folders)

    def identity(self, folder: str) -> tuple[int, int]:
        """Return the (device, inode) that identifies a folder through any link."""
        status = (self.root / folder).stat()
        return status.st_dev, status.st_ino

    def _scan_folder(self, folder: str, skipped: list[Skipped]) -> tuple[list[str], list[str]]:
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(self.root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            skipped.append(Skipped(folder, _reason(error)))
            return folders, files
        if folder and is_written({entry.name for entry in found}):
            skipped.append(Skipped(folder, WRITTEN))
            self._written.add(folder)
            return folders, files
        has_explanations = False
        for entry in found:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_hidden(entry.name):
                skipped.append(Skipped(name, HIDDEN))
                continue
            try:
                if entry.is_dir():
                    folders.append(name)
                elif entry.name.endswith(EXPLANATION_SUFFIX):
                    has_explanations = True
                    skipped.append(Skipped(name, WRITTEN))
                elif entry.is_file():
                    files.append(name)
                else:
                    entry.stat()  # raises for broken links
                    skipped.append(Skipped(name, "not a regular file"))
            except OSError as error:
                skipped.append(Skipped(name, _reason(error)))
        if has_explanations and not folders and not files:
            self._written.add(folder)
        return folders, files


def list_class_folder(folder: Path) -> Listing:
    """List every file in a folder as an image of the class that has the folder's name, without opening any.

    Subfolders belong to the class. If all of them are named after splits and no file stands beside them, they are the
    splits of its images. Names are relative to the folder's parent.

    Raises:
        DataError: if the folder is missing, not a folder, or empty, or seems to hold several classes.
    """
    path = Path(os.path.abspath(folder))  # noqa: PTH100 - the name of a link is the class, not that of its target
    if not path.is_dir():
        problem = "is a file, not a folder" if path.exists() else "does not exist"
        raise DataError(f"{str(folder)!r} {problem}: pass a folder with the images of one class, named after it")
    name = path.name
    tree = FolderTree(path.parent)
    subfolders, files = tree.folders(name), tree.read(name)[1]
    splits = {} if files else find_split_folders(subfolders)
    if len(splits) < len(subfolders):
        splits = {}
    inner = {folder for split in splits for folder in tree.folders(split)}
    if not files and ((len(subfolders) > 1 and not splits) or inner):
        several = ", ".join(repr(path.parent.joinpath(one).as_posix()) for one in sorted(inner or subfolders)[:3])
        raise DataError(
            f"{str(folder)!r} has no images of its own, but folders, such as {several}: pass the folder of each class, "
            "which is named after it"
        )
    label, entered = canonical(name), set[tuple[int, int]]()
    candidates = [
        Candidate(file, label, split)
        for top, split in (splits or {name: None}).items()
        for file in tree.walk(top, entered)
    ]
    if not candidates:
        raise DataError(f"the folder {str(folder)!r} has no files: put the images of the class into it")
    return Listing(tree.root, (label,), tuple(candidates), tuple(tree.skipped))


def _reason(error: OSError) -> str:
    known = {
        errno.ENOENT: "a broken link",
        errno.ELOOP: "a link that leads to itself",
        errno.EACCES: "no permission to read it",
    }
    return known.get(error.errno or 0, (error.strerror or "cannot be read").lower())
