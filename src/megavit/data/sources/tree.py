"""Walk folders of images; every folder is read once, and what is no image is left out."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from megavit.data.dataset import Skipped
from megavit.data.file_names import EXPLAINED, HIDDEN, WRITTEN, is_hidden, is_written

_DEEPEST = 4
"""Folders within folders in which nothing but our own output is looked for."""


class FolderTree:
    """Folders and files below `root`, by their names relative to it, with "/".

    To look into a folder tells what it is; what is taken from it counts, and `skipped` is what was left out then.

    Links are followed. Hidden files, those of systems, broken links, special files, and what megavit itself has
    written are left out.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[Skipped] = []
        self._seen: dict[str, tuple[list[str], list[str]]] = {}
        self._left: dict[str, list[Skipped]] = {}
        self._written: set[str] = set()

    def look(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the folders and the files in a folder, in order of their names."""
        if folder not in self._seen:
            self._left[folder] = []
            self._seen[folder] = self._look(folder, self._left[folder])
        return self._seen[folder]

    def take(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the folders and the files in a folder, for the last time: there may be a million names in it."""
        found = self.look(folder)
        self.skipped += self._left.pop(folder)
        del self._seen[folder]
        return found

    def folders(self, folder: str) -> list[str]:
        """Return the folders in a folder that hold something other than what megavit has written."""
        return [inner for inner in self.look(folder)[0] if not self.is_written(inner)]

    def is_written(self, folder: str, depth: int = _DEEPEST) -> bool:
        """Return whether megavit has written all that is in a folder."""
        folders, files = self.look(folder)
        if folder in self._written:
            return True
        written = bool(folders) and not files and depth > 0 and all(self.is_written(one, depth - 1) for one in folders)
        if written:
            self._written.add(folder)
        return written

    def walk(self, top: str, entered: set[tuple[int, int]]) -> Iterator[str]:
        """Yield the files below `top`; `entered` holds the folders that must not be entered (again)."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                identity = self.identity(folder)
            except OSError as error:
                self.skipped.append(Skipped(folder, _reason(error)))
                continue
            if identity in entered:
                self.skipped.append(Skipped(folder, "a link to a folder that is read already"))
                continue
            entered.add(identity)
            folders, files = self.take(folder)
            yield from files
            waiting += reversed(folders)

    def identity(self, folder: str) -> tuple[int, int]:
        """Return what tells a folder from every other one, whatever link leads to it."""
        status = (self.root / folder).stat()
        return status.st_dev, status.st_ino

    def _look(self, folder: str, skipped: list[Skipped]) -> tuple[list[str], list[str]]:
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
        explained = False
        for entry in found:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_hidden(entry.name):
                skipped.append(Skipped(name, HIDDEN))
                continue
            try:
                if entry.is_dir():
                    folders.append(name)
                elif entry.name.endswith(EXPLAINED):
                    explained = True
                    skipped.append(Skipped(name, WRITTEN))
                elif entry.is_file():
                    files.append(name)
                else:
                    entry.stat()  # says what is wrong with a link
                    skipped.append(Skipped(name, "not a regular file"))
            except OSError as error:
                skipped.append(Skipped(name, _reason(error)))
        if explained and not folders and not files:
            self._written.add(folder)
        return folders, files


def _reason(error: OSError) -> str:
    known = {
        errno.ENOENT: "a broken link",
        errno.ELOOP: "a link that leads to itself",
        errno.EACCES: "no permission to read it",
    }
    return known.get(error.errno or 0, (error.strerror or "cannot be read").lower())
