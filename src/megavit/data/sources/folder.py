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
  DATA/val/cat/3.jpg
or a table of images and classes, such as DATA.csv with the columns path and label"""

OUTSIDE = "outside any class folder"

_IMAGE_FOLDERS = frozenset(("images", "image", "imgs", "img", "pictures", "photos", "jpegimages"))
_ANNOTATION_FOLDERS = frozenset(
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
    ancestors: list[str] = field(default_factory=list)
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
    if not any(tree.read("")):
        raise DataError(f"the folder {str(root)!r} is empty. {EXPECTED}")
    found = find_classes(tree, known)
    written = [inner for ancestor in found.ancestors for inner in tree.read(ancestor)[0] if tree.is_written(inner)]
    outside = [file for ancestor in found.ancestors for file in tree.pop(ancestor)[1]]
    if not found.classes:
        content = f"has files, such as {outside[0]!r}, but no" if outside else "has no"
        raise DataError(f"the folder {str(root)!r} {content} class folders. {EXPECTED}")

    ancestors = {tree.identity(ancestor) for ancestor in found.ancestors}
    candidates = [
        Candidate(name, class_folder.label, class_folder.split)
        for class_folder in found.classes
        for name in tree.walk(class_folder.folder, set(ancestors))
    ]
    for folder in written:
        outside += tree.walk(folder, set(ancestors))
    skipped = (*(Skipped(name, OUTSIDE) for name in outside), *tree.skipped)
    classes = tuple(sorted({class_folder.label for class_folder in found.classes}))
    return Listing(root, classes, tuple(candidates), skipped, notes=(*found.notes, *_same_class_notes(found.classes)))


def find_classes(tree: FolderTree, known: Collection[str] | None = None) -> ClassFolders:
    """Find the class folders: CLASS, SPLIT/CLASS or CLASS/SPLIT, in the root or below a chain of single folders.

    Some of the classes that a model knows (`known`) suffice, without a training split.

    Raises:
        DataError: if splits and classes cannot be distinguished, or there is no split to train on.
    """
    top, ancestors = "", [""]
    while True:
        folders = tree.folders(top)
        for order in (_split_first, _class_first):
            found = order(tree, top, folders, known)
            if found is not None:
                return _with_ancestors(found, top, ancestors)
        inner = _only_folder(tree, top, folders, known)
        if inner is None:
            break
        top = inner
        ancestors.append(top)
    if top and len(tree.folders(top)) < 2:  # a chain of single folders
        top, ancestors = "", [""]
    folders = tree.folders(top)
    _check_not_masks(tree, folders)
    classes = [ClassFolder(folder, _label(folder), None) for folder in folders]
    notes = _same_subfolders_notes(tree, folders)
    return _with_ancestors(ClassFolders(classes, [], notes), top, ancestors)


def _with_ancestors(found: ClassFolders, top: str, ancestors: list[str]) -> ClassFolders:
    notes = [f"the class folders are read from {top!r}, the only folder at its level"] if top else []
    return ClassFolders(found.classes, ancestors + found.ancestors, notes + found.notes)


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
    _check_not_splits_of_a_class(tree, folders, named)
    others = [folder for folder in folders if folder not in named]
    if not named or not any(tree.folders(folder) for folder in named):
        if named and not others:
            raise DataError(
                f"{_describe_folder(tree, top)} has {_join_names(named)}, but no class folders in them. {EXPECTED}"
            )
        return None
    if others:
        raise DataError(
            f"{_describe_folder(tree, top)} has the split folders {_join_names(named)}, with folders in them, and also "
            f"the folders {_join_names(others[:5])}: move one or the other elsewhere. {EXPECTED}"
        )
    _check_train(tree, top, named, known)
    notes = _split_notes(named)
    subfolders = {folder: tree.folders(folder) for folder in named}
    ancestors = [*named]
    inner_folders = _find_inner_folders(tree, subfolders, known)
    if inner_folders:
        notes.append(
            f"the class folders are read from {_join_names(inner_folders.values())}, the only folders at their level"
        )
        ancestors += inner_folders.values()
        subfolders = {folder: tree.folders(inner) for folder, inner in inner_folders.items()}
    for folder, inner in subfolders.items():
        if len(set(_named_splits(inner).values())) > 1:
            raise DataError(
                f"{_describe_folder(tree, folder)} is named after a split and contains folders named after splits, "
                f"{_join_names(inner[:5])}: keep one of the two levels. {EXPECTED}"
            )
    classes = [
        ClassFolder(inner_folder, _label(inner_folder), named[folder])
        for folder, inner in subfolders.items()
        for inner_folder in inner
    ]
    _check_not_masks(tree, [inner_folder.folder for inner_folder in classes if inner_folder.split == "train"])
    return ClassFolders(classes, ancestors, notes)


def _class_first(tree: FolderTree, top: str, folders: list[str], known: Collection[str] | None) -> ClassFolders | None:
    """Return the split folders within class folders, as in defect data sets; None if there are none."""
    subfolders = {folder: tree.folders(folder) for folder in folders}
    named = {folder: _named_splits(inner) for folder, inner in subfolders.items()}
    enough = len(folders) > 1 or (known is not None and bool(folders))
    several = [folder for folder, splits in named.items() if len(set(splits.values())) > 1]
    if not enough or not (several or all(named.values())):
        return None
    if len(folders) == 1 and known is not None and _label(folders[0]) not in known:
        return None
    _check_not_masks(tree, folders)
    example = (several or folders)[0]
    layout = (
        f"{_describe_folder(tree, top)} has folders named after splits in other folders, such as "
        f"{_join_names(named[example])}"
    )
    for folder, inner in subfolders.items():
        rest = [split_folder for split_folder in inner if split_folder not in named[folder]]
        if rest or not named[folder] or _has_images(tree, folder):
            outside = rest[0] if rest else folder
            raise DataError(
                f"{layout}, but {outside!r} is in no split: put every image of a class into one of its splits, or "
                f"rename these folders. {EXPECTED}"
            )
        deeper = next((nested for split_folder in inner for nested in tree.folders(split_folder)), None)
        if deeper is not None:
            raise DataError(
                f"{layout}, and these have subfolders, such as {deeper!r}: if those are the classes, use only "
                f"{str(tree.root / example)!r}; if not, remove them. {EXPECTED}"
            )
    splits = {split_folder: split for split_folders in named.values() for split_folder, split in split_folders.items()}
    _check_train(tree, top, splits, known)
    classes = [
        ClassFolder(split_folder, _label(folder), split)
        for folder in folders
        for split_folder, split in named[folder].items()
    ]
    notes = [f"the splits are within the classes, such as {_join_names(named[example])}", *_split_notes(named[example])]
    return ClassFolders(classes, folders, notes)


def _find_inner_folders(
    tree: FolderTree, subfolders: dict[str, list[str]], known: Collection[str] | None
) -> dict[str, str]:
    """Return the single folder that holds the classes in each split, with the same name in all or the split's name."""
    filled = {folder: inner for folder, inner in subfolders.items() if inner}
    if any(len(inner) != 1 or _has_images(tree, folder) for folder, inner in filled.items()):
        return {}
    inner_folders = {folder: inner[0] for folder, inner in filled.items()}
    same_name = len({_label(inner_folder) for inner_folder in inner_folders.values()}) == 1
    if not same_name and any(
        parse_name(_base_name(inner_folder)) != parse_name(_base_name(folder))
        for folder, inner_folder in inner_folders.items()
    ):
        return {}
    if known is not None and any(_label(inner_folder) in known for inner_folder in inner_folders.values()):
        return {}
    deeper = {_label(inner_folder) for inner in inner_folders.values() for inner_folder in tree.folders(inner)}
    if not all(
        tree.folders(inner_folder) and not _has_images(tree, inner_folder) for inner_folder in inner_folders.values()
    ):
        return {}
    return inner_folders if len(deeper) > 1 or known is not None else {}


def _check_not_splits_of_a_class(tree: FolderTree, folders: list[str], named: dict[str, str]) -> None:
    """Refuse folders named after a split and a class, such as train_cats and test_cats, or trainA and testA."""
    if named:
        return
    by_rest: dict[tuple[str, ...], dict[str, str]] = {}
    for folder in folders:
        found = parse_name(_base_name(folder))
        if len(found.splits) == 1:
            by_rest.setdefault(found.rest, {})[found.splits[0]] = folder
    splits_of_class = next((splits for splits in by_rest.values() if len(splits) > 1), None)
    if splits_of_class is not None:
        split, folder = next(iter(splits_of_class.items()))
        raise DataError(
            f"the folders {_join_names(splits_of_class.values())} of {str(tree.root)!r} seem to be splits of one "
            f"class, but would be used as classes: move them into split folders, such as "
            f"DATA/{split}/{'_'.join(parse_name(_base_name(folder)).rest)}. {EXPECTED}"
        )


def _check_train(tree: FolderTree, top: str, named: dict[str, str], known: Collection[str] | None) -> None:
    if known is None and "train" not in named.values():
        raise DataError(f"{_describe_folder(tree, top)} has {_join_names(named)}, but no train folder. {EXPECTED}")


def _check_not_masks(tree: FolderTree, folders: list[str]) -> None:
    names = [_base_name(folder).casefold().replace(" ", "_").replace("-", "_") for folder in folders]
    annotations = [name for name in names if name in _ANNOTATION_FOLDERS]
    if (
        annotations
        and len(annotations) < len(names)
        and all(name in _IMAGE_FOLDERS for name in names if name not in annotations)
    ):
        raise DataError(
            f"the folders {_join_names(folders)} of {str(tree.root)!r} seem to be images and their annotations, "
            f"not classes. {EXPECTED}"
        )


def _same_subfolders_notes(tree: FolderTree, folders: list[str]) -> list[str]:
    """Return a note if all classes have the same subfolders, which may be the actual classes."""
    subfolders = [tuple(_label(subfolder) for subfolder in tree.folders(folder)) for folder in folders]
    if (
        len(folders) < 2
        or len(set(subfolders)) > 1
        or len(subfolders[0]) < 2
        or any(_has_images(tree, folder) for folder in folders)
    ):
        return []
    return [
        f"each of the classes {_join_names(folders[:3])} has the same subfolders, {_join_names(subfolders[0][:3])}: "
        "if those are the classes, move them to the top, or into folders named train, val and test"
    ]


def _split_notes(named: dict[str, str]) -> list[str]:
    others = [
        f"{folder!r} as {split}" for folder, split in named.items() if _base_name(folder).casefold() not in SPLITS
    ]
    return [f"read {', '.join(others)}"] if others else []


def _has_images(tree: FolderTree, folder: str) -> bool:
    return any(PurePosixPath(file).suffix[1:].lower() in IMAGE_SUFFIXES for file in tree.read(folder)[1])


def _named_splits(folders: Sequence[str]) -> dict[str, str]:
    return {folder: split for folder in folders if (split := parse_split(_base_name(folder)))}


def _label(folder: str) -> str:
    return canonical(_base_name(folder))


def _base_name(folder: str) -> str:
    return folder.rpartition("/")[2]


def _describe_folder(tree: FolderTree, top: str) -> str:
    return f"the folder {str(tree.root / top)!r}"


def _join_names(names: Sequence[str] | Collection[str]) -> str:
    return ", ".join(map(repr, names))


def _same_class_notes(folders: list[ClassFolder]) -> list[str]:
    names_by_label: dict[str, set[str]] = defaultdict(set)
    for class_folder in folders:
        parts = class_folder.folder.split("/")
        names_by_label[class_folder.label].update(part for part in parts if canonical(part) == class_folder.label)
    return [
        f"{show_code_points(sorted(names))} are one class: they are two forms of the same text"
        for names in names_by_label.values()
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
