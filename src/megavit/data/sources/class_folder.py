"""Read a single folder of images as one class, named after the folder."""

import os
from pathlib import Path

from megavit.config.names import canonical
from megavit.data.scan import Candidate, Listing
from megavit.data.sources.tree import FolderTree
from megavit.data.split.split_names import find_split_folders
from megavit.errors import DataError


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
