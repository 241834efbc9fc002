"""Read folders of images, and find which folders are classes, splits, or neither."""

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from megavit.config.names import canonical, show_code_points
from megavit.data.dataset import Skipped
from megavit.data.file_names import IMAGE_SUFFIXES
from megavit.data.scan import Candidate, Listing
from megavit.data.sources.tree import FolderTree
from megavit.data.split.split_names import SPLITS, find_split_folders, parse_name, parse_split
from megavit.errors import DataError

EXPECTED = """Expected a folder for each class, such as
  DATA/cat/1.jpg
  DATA/dog/2.jpg
or the same in folders named train, val and test, such as
  DATA/train/cat/1.jpg
  DATA/val/cat/3.jpg"""

OUTSIDE = "outside any class folder"

_PICTURES = frozenset(("images", "image", "imgs", "img", "pictures", "photos", "jpegimages"))
_DRAWN_ON_THEM = frozenset(
    (
        *("masks", "mask", "labels", "label", "annotations", "annotation", "ground_truth", "groundtruth", "gt"),
        *("bboxes", "segmentationclass"),
    )
)


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose files are of one class, and of one split or None."""

    folder: str
    label: str
    split: str | None


@dataclass(frozen=True)
class ClassFolders:
    """The class folders of a data set.

    Attributes:
        classes: folders with the images of one class each.
        above: ancestors of these folders, including the root.
        notes: remarks on how the folders were read.
    """

    classes: list[ClassFolder]
    above: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_folder(root: Path, known: Collection[str] | None = None) -> Listing:
    """List every file in the class folders of `root`, in order of names, without opening any.

    Subfolders of a class belong to it. Links are followed, but no folder is entered twice for one class. Hidden and
    system files, broken links, special files, files outside a class, and files written by megavit are skipped.

    Args:
        known: canonical names of the classes that a model knows; then one class suffices.

    Raises:
        DataError: if the root is missing, not a folder, empty, or without class folders, or if splits and classes
            cannot be distinguished.
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


def find_classes(tree: FolderTree, known: Collection[str] | None = None) -> ClassFolders:
    """Find the class folders: CLASS, SPLIT/CLASS or CLASS/SPLIT, in the root or below a chain of single folders.

    Some of the classes that a model knows (`known`) suffice, without a training split.

    Raises:
        DataError: if splits and classes cannot be distinguished, or there is no split to train on.
    """
    top, above = "", [""]
    while True:
        folders = tree.folders(top)
        for order in (_split_first, _class_first):
            found = order(tree, top, folders, known)
            if found is not None:
                return _with_way(found, top, above)
        inner = _only_folder(tree, top, folders, known)
        if inner is None:
            break
        top = inner
        above.append(top)
    if top and len(tree.folders(top)) < 2:  # a chain of single folders
        top, above = "", [""]
    folders = tree.folders(top)
    _check_not_masks(tree, folders)
    classes = [ClassFolder(folder, _label(folder), None) for folder in folders]
    notes = _same_within(tree, folders)
    return _with_way(ClassFolders(classes, [], notes), top, above)


def _with_way(found: ClassFolders, top: str, above: list[str]) -> ClassFolders:
    notes = [f"the class folders are read from {top!r}, the only folder at its level"] if top else []
    return ClassFolders(found.classes, above + found.above, notes + found.notes)


def _only_folder(tree: FolderTree, top: str, folders: list[str], known: Collection[str] | None) -> str | None:
    """Return the single folder in `top` if there are no images next to it, and subfolders but no images within."""
    if len(folders) != 1 or (known is not None and _label(folders[0]) in known):
        return None
    if not tree.folders(folders[0]) or _has_images(tree, top) or _has_images(tree, folders[0]):
        return None
    return folders[0] if len(folders[0].split("/")) < 8 else None


def _split_first(tree: FolderTree, top: str, folders: list[str], known: Collection[str] | None) -> ClassFolders | None:
    """Return the class folders within split folders; None if all folders are classes."""
    if known is not None and all(_label(folder) in known for folder in folders):
        return None
    named = find_split_folders(folders)
    _check_one_meaning(tree, folders, named)
    others = [folder for folder in folders if folder not in named]
    if not named or not any(tree.folders(folder) for folder in named):
        if named and not others:
            raise DataError(f"{_place(tree, top)} has {_listed(named)}, but no class folders in them. {EXPECTED}")
        return None
    if others:
        raise DataError(
            f"{_place(tree, top)} has the split folders {_listed(named)}, with folders in them, and also the folders "
            f"{_listed(others[:5])}: move one or the other elsewhere. {EXPECTED}"
        )
    _check_train(tree, top, named, known)
    notes = _how_named(named)
    within = {folder: tree.folders(folder) for folder in named}
    above = [*named]
    down = _down(tree, within, known)
    if down:
        notes.append(f"the class folders are read from {_listed(down.values())}, the only folders at their level")
        above += down.values()
        within = {folder: tree.folders(inner) for folder, inner in down.items()}
    for folder, inner in within.items():
        if len(set(_named(inner).values())) > 1:
            raise DataError(
                f"{_place(tree, folder)} is named after a split and contains folders named after splits, "
                f"{_listed(inner[:5])}: keep one of the two levels. {EXPECTED}"
            )
    classes = [ClassFolder(one, _label(one), named[folder]) for folder, inner in within.items() for one in inner]
    _check_not_masks(tree, [one.folder for one in classes if one.split == "train"])
    return ClassFolders(classes, above, notes)


def _class_first(tree: FolderTree, top: str, folders: list[str], known: Collection[str] | None) -> ClassFolders | None:
    """Return the split folders within class folders, as in defect data sets; None if there are none."""
    within = {folder: tree.folders(folder) for folder in folders}
    named = {folder: _named(inner) for folder, inner in within.items()}
    enough = len(folders) > 1 or (known is not None and bool(folders))
    several = [folder for folder, splits in named.items() if len(set(splits.values())) > 1]
    if not enough or not (several or all(named.values())):
        return None
    if len(folders) == 1 and known is not None and _label(folders[0]) not in known:
        return None
    example = (several or folders)[0]
    layout = f"{_place(tree, top)} has folders named after splits in other folders, such as {_listed(named[example])}"
    for folder, inner in within.items():
        rest = [one for one in inner if one not in named[folder]]
        if rest or not named[folder] or _has_images(tree, folder):
            beside = rest[0] if rest else folder
            raise DataError(
                f"{layout}, but {beside!r} is in no split: put every image of a class into one of its splits, or "
                f"rename these folders. {EXPECTED}"
            )
        deeper = next((deep for one in inner for deep in tree.folders(one)), None)
        if deeper is not None:
            raise DataError(
                f"{layout}, and these have subfolders, such as {deeper!r}: if those are the classes, use only "
                f"{str(tree.root / example)!r}; if not, remove them. {EXPECTED}"
            )
    splits = {one: split for marked in named.values() for one, split in marked.items()}
    _check_train(tree, top, splits, known)
    classes = [ClassFolder(one, _label(folder), split) for folder in folders for one, split in named[folder].items()]
    notes = [f"the splits are within the classes, such as {_listed(named[example])}", *_how_named(named[example])]
    return ClassFolders(classes, folders, notes)


def _down(tree: FolderTree, within: dict[str, list[str]], known: Collection[str] | None) -> dict[str, str]:
    """Return the single folder that holds the classes in each split, with the same name in all or the split's name."""
    filled = {folder: inner for folder, inner in within.items() if inner}
    if any(len(inner) != 1 or _has_images(tree, folder) for folder, inner in filled.items()):
        return {}
    down = {folder: inner[0] for folder, inner in filled.items()}
    alike = len({_label(one) for one in down.values()}) == 1
    if not alike and any(parse_name(_base(one)) != parse_name(_base(folder)) for folder, one in down.items()):
        return {}
    if known is not None and any(_label(one) in known for one in down.values()):
        return {}
    deeper = {_label(one) for inner in down.values() for one in tree.folders(inner)}
    if not all(tree.folders(one) and not _has_images(tree, one) for one in down.values()):
        return {}
    return down if len(deeper) > 1 or known is not None else {}


def _check_one_meaning(tree: FolderTree, folders: list[str], named: dict[str, str]) -> None:
    """Refuse folders named after a split and a class, such as train_cats and test_cats, or trainA and testA."""
    if named:
        return
    by_rest: dict[tuple[str, ...], dict[str, str]] = {}
    for folder in folders:
        found = parse_name(_base(folder))
        if len(found.splits) == 1:
            by_rest.setdefault(found.rest, {})[found.splits[0]] = folder
    same = next((splits for splits in by_rest.values() if len(splits) > 1), None)
    if same is not None:
        first = next(iter(same.values()))
        raise DataError(
            f"the folders {_listed(same.values())} of {str(tree.root)!r} seem to be splits of one class, but would be "
            f"used as classes: move them into split folders, such as "
            f"DATA/{next(iter(same))}/{'_'.join(parse_name(_base(first)).rest)}. {EXPECTED}"
        )


def _check_train(tree: FolderTree, top: str, named: dict[str, str], known: Collection[str] | None) -> None:
    if known is None and "train" not in named.values():
        raise DataError(f"{_place(tree, top)} has {_listed(named)}, but no train folder. {EXPECTED}")


def _check_not_masks(tree: FolderTree, folders: list[str]) -> None:
    names = [_base(folder).casefold().replace(" ", "_").replace("-", "_") for folder in folders]
    drawn = [name for name in names if name in _DRAWN_ON_THEM]
    if drawn and len(drawn) < len(names) and all(name in _PICTURES for name in names if name not in drawn):
        raise DataError(
            f"the folders {_listed(folders)} of {str(tree.root)!r} seem to be images and their annotations, "
            f"not classes. {EXPECTED}"
        )


def _same_within(tree: FolderTree, folders: list[str]) -> list[str]:
    """Return a note if all classes have the same subfolders, which may be the actual classes."""
    within = [tuple(_label(one) for one in tree.folders(folder)) for folder in folders]
    if len(folders) < 2 or len(set(within)) > 1 or len(within[0]) < 2 or any(_has_images(tree, one) for one in folders):
        return []
    return [
        f"each of the classes {_listed(folders[:3])} has the same subfolders, {_listed(within[0][:3])}: if those are "
        "the classes, move them to the top, or into folders named train, val and test"
    ]


def _how_named(named: dict[str, str]) -> list[str]:
    others = [f"{folder!r} as {split}" for folder, split in named.items() if _base(folder).casefold() not in SPLITS]
    return [f"read {', '.join(others)}"] if others else []


def _has_images(tree: FolderTree, folder: str) -> bool:
    return any(PurePosixPath(file).suffix[1:].lower() in IMAGE_SUFFIXES for file in tree.look(folder)[1])


def _named(folders: Sequence[str]) -> dict[str, str]:
    return {folder: split for folder in folders if (split := parse_split(_base(folder)))}


def _label(folder: str) -> str:
    return canonical(_base(folder))


def _base(folder: str) -> str:
    return folder.rpartition("/")[2]


def _place(tree: FolderTree, top: str) -> str:
    return f"the folder {str(tree.root / top)!r}"


def _listed(names: Sequence[str] | Collection[str]) -> str:
    return ", ".join(map(repr, names))


def _joined(folders: list[ClassFolder]) -> list[str]:
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
        raise DataError(f"{str(root)!r} does not exist. {EXPECTED}")
    if not root.is_dir():
        raise DataError(f"{str(root)!r} is a file, not a folder. {EXPECTED}")
    try:
        os.scandir(root).close()
    except OSError as error:
        raise DataError(f"the folder {str(root)!r} cannot be read: {error.strerror}") from error
