"""Find the files that a table names, where their names on disk differ."""

import os
from pathlib import Path, PurePosixPath

from megavit.config.names import canonical
from megavit.data.file_names import IMAGE_SUFFIXES
from megavit.data.sources.image_root import ImageRoot


class PathResolver:
    r"""A finder of files below `root` whose names in a table differ from those on disk.

    Names may have another Unicode form, spaces at the ends, `\` between folders, the leading apostrophe by which
    spreadsheets mark text, or no suffix. They are relative to a folder of the images, relative to `root`.

    Attributes:
        shortened: number of names that are read without their beginning.
        changed: number of files found under another form of their name.
        completed: number of files found by names without suffix.
    """

    def __init__(self, root: Path, images: ImageRoot) -> None:
        self.shortened, self.changed, self.completed = 0, 0, 0
        self._root, (self._folder, self._prefix) = os.fspath(root), images
        self._names_by_folder: dict[str, tuple[dict[str, str | None], dict[str, str | None]]] = {}

    def find(self, path: str) -> str:
        """Return the name on disk, with "/", or the written name if no file or several match."""
        if self._prefix and (shorter := path.strip().replace("\\", "/")).startswith(self._prefix):
            self.shortened += 1
            path = shorter.removeprefix(self._prefix)
        name = self._in_folder(path)
        if os.path.lexists(os.path.join(self._root, name)):  # noqa: PTH118 - faster for a million files
            return name
        stripped = path.strip()
        written = (stripped, stripped.replace("\\", "/"), stripped.removeprefix("'"))
        variants = [self._in_folder(variant) for variant in dict.fromkeys(written)]
        for variant in variants:
            found = self._found(variant)
            if found is not None:
                self.changed += 1
                return found
        for variant in variants:
            found = self._found(variant, with_suffix=False)
            if found is not None:
                self.completed += 1
                return found
        return name

    def notes(self) -> list[str]:
        """Return remarks on the files that were found under other names."""
        notes = [f"the images are read from the folder {self._folder!r}"] if self._folder else []
        if self.shortened:
            notes.append(
                f"{self.shortened:,} names in the table are read without {self._prefix!r} at their beginning, which is "
                "no folder here"
            )
        if self.changed:
            notes.append(
                f"found {self.changed:,} under another form of the name in the table: Unicode, spaces, or \\ for /"
            )
        if self.completed:
            notes.append(f"found {self.completed:,} by their names in the table, which have no suffix")
        return notes

    def _in_folder(self, path: str) -> str:
        # A path that is absolute stays so.
        return (PurePosixPath(self._folder) / path if self._folder else PurePosixPath(path)).as_posix()

    def _found(self, name: str, with_suffix: bool = True) -> str | None:
        folder = "/" if name.startswith("/") else ""
        parts = [part for part in PurePosixPath(name).parts if part != "/"]
        for index, part in enumerate(parts):
            names, stems = self._names(folder)
            chosen = names if with_suffix or index + 1 < len(parts) else stems
            actual = part if part == ".." else chosen.get(canonical(part))
            if actual is None:
                return None
            folder = actual if not folder else f"{folder.rstrip('/')}/{actual}"
        return folder or None

    def _names(self, folder: str) -> tuple[dict[str, str | None], dict[str, str | None]]:
        """Return the names in a folder by their canonical form, and those of images by it without suffix."""
        if folder not in self._names_by_folder:
            names: dict[str, str | None] = {}
            stems: dict[str, str | None] = {}
            try:
                entries = os.listdir(os.path.join(self._root, folder))  # noqa: PTH118, PTH208 - faster than Path
            except OSError:
                entries = []
            for name in entries:
                key = canonical(name)
                names[key] = None if key in names else name
                stem, _, suffix = key.rpartition(".")
                if suffix.lower() in IMAGE_SUFFIXES:
                    stems[stem] = None if stem in stems else name
            self._names_by_folder[folder] = names, stems
        return self._names_by_folder[folder]
