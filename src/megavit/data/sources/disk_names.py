"""The names that files have on disk, where a table writes them another way."""

import os
from pathlib import Path, PurePosixPath

from megavit.config.names import canonical


class PathResolver:
    r"""Finds files below `root` whose names are written otherwise: in another Unicode form, with spaces at the ends,
    with `\` between folders, or with the apostrophe that keeps a spreadsheet from running them.

    `changed` counts the names that were found so.
    """

    def __init__(self, root: Path) -> None:
        self.changed = 0
        self._root = os.fspath(root)
        self._within: dict[str, dict[str, str | None]] = {}

    def find(self, written: str) -> str:
        """Return the name on disk, with "/"; what is written, where no file or more than one may be meant."""
        name = PurePosixPath(written).as_posix()
        # Most names are right.
        if os.path.lexists(os.path.join(self._root, name)):  # noqa: PTH118 - a million of them
            return name
        stripped = written.strip()
        for other in (stripped, stripped.replace("\\", "/"), stripped.removeprefix("'")):
            found = self._found(PurePosixPath(other).as_posix())
            if found is not None:
                self.changed += 1
                return found
        return name

    def _found(self, name: str) -> str | None:
        folder = "/" if name.startswith("/") else ""
        for part in PurePosixPath(name).parts:
            if part == "/":
                continue
            actual = part if part == ".." else self._names(folder).get(canonical(part))
            if actual is None:
                return None
            folder = actual if not folder else f"{folder.rstrip('/')}/{actual}"
        return folder or None

    def _names(self, folder: str) -> dict[str, str | None]:
        """What is in a folder, by canonical names; None where two have the same."""
        if folder not in self._within:
            names: dict[str, str | None] = {}
            try:
                there = os.listdir(os.path.join(self._root, folder))  # noqa: PTH118, PTH208 - strings will do
            except OSError:
                there = []
            for name in there:
                key = canonical(name)
                names[key] = None if key in names else name
            self._within[folder] = names
        return self._within[folder]
