"""Name a table together with what its header does not tell."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table of images whose columns, or the folder of whose images, cannot be found by their names.

    Attributes:
        path: path of the table, or of a folder with one.
        path_column, label_column: names of its columns of images and labels; None to find them by their names.
        image_root: folder that its paths are relative to; None for the table's, or one below it.
    """

    path: str | os.PathLike[str]
    path_column: str | None = None
    label_column: str | None = None
    image_root: str | os.PathLike[str] | None = None

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `megavit.config.recipe.DataRecipe` that are given, with an absolute folder."""
        root = None if self.image_root is None else str(Path(self.image_root).absolute())
        given = {"path_column": self.path_column, "label_column": self.label_column, "image_root": root}
        return {name: value for name, value in given.items() if value is not None}
