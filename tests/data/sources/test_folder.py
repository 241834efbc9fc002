"""Class folders: which files belong to which class and split."""

from pathlib import Path

import pytest

from megavit.data.dataset import Skipped
from megavit.data.file_names import HIDDEN
from megavit.data.scan import Candidate
from megavit.data.sources.folder import list_folder
from megavit.data.split.split_names import SPLIT_WORDS
from megavit.errors import DataError


def make(root: Path, *names: str) -> Path:
    """Empty files, or folders where a name ends in "/"; nothing is opened here, so that they will do."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def rows(root: Path) -> list[tuple[str, str | tuple[str, ...] | float, str | None]]:
    return [(found.name, found.target, found.split) for found in list_folder(root).candidates]


def test_the_first_folder_is_the_class_and_folders_within_belong_to_it(tmp_path):
    make(tmp_path, "dog/1.png", "cat/b/2.png", "cat/a/deep/3.png", "cat/1.png")
    listing = list_folder(tmp_path)
    assert listing.classes == ("cat", "dog")
    assert listing.candidates == (
        Candidate("cat/1.png", "cat", None),
        Candidate("cat/a/deep/3.png", "cat", None),
        Candidate("cat/b/2.png", "cat", None),
        Candidate("dog/1.png", "dog", None),
    )


@pytest.mark.parametrize(("split", "name"), [(split, word) for split, words in SPLIT_WORDS.items() for word in words])
def test_every_name_of_a_split_is_known(split, name, tmp_path):
    make(tmp_path, "train/cat/1.png", f"{name}/cat/2.png")
    assert (f"{name}/cat/2.png", "cat", split) in rows(tmp_path)


def test_classes_are_those_of_all_splits(tmp_path):
    make(tmp_path, "train/cat/1.png", "val/dog/1.png", "test/emu/")
    assert list_folder(tmp_path).classes == ("cat", "dog", "emu")


def test_a_class_may_be_called_train(tmp_path):
    make(tmp_path, "bus/1.png", "train/1.png", "test/1.png")
    assert rows(tmp_path) == [("bus/1.png", "bus", None), ("test/1.png", "test", None), ("train/1.png", "train", None)]


def test_test_images_without_labels_are_skipped(tmp_path):
    make(tmp_path, "train/cat/1.png", "test/1.png")
    assert rows(tmp_path) == [("train/cat/1.png", "cat", "train")]
    assert list_folder(tmp_path).skipped == (Skipped("test/1.png", "outside any class folder"),)


def test_hidden_files_and_folders_are_skipped(tmp_path):
    make(tmp_path, "cat/1.png", "cat/.1.png", "cat/THUMBS.DB", "cat/desktop.ini", ".git/x", "__MACOSX/cat/1.png", ".x")
    listing = list_folder(tmp_path)
    assert [found.name for found in listing.candidates] == ["cat/1.png"]
    assert {(skipped.name, skipped.reason) for skipped in listing.skipped} == {
        (name, HIDDEN) for name in ("cat/.1.png", "cat/THUMBS.DB", "cat/desktop.ini", ".git", "__MACOSX", ".x")
    }


def test_links_to_files_and_folders_are_followed(tmp_path):
    make(tmp_path, "elsewhere/cats/2.png", "elsewhere/3.png", "data/cat/1.png", "data/dog/1.png")
    (tmp_path / "data/cat/more").symlink_to(tmp_path / "elsewhere/cats")
    (tmp_path / "data/cat/3.png").symlink_to(tmp_path / "elsewhere/3.png")
    (tmp_path / "data/emu").symlink_to(tmp_path / "elsewhere/cats")
    assert [name for name, _, _ in rows(tmp_path / "data")] == [
        "cat/1.png",
        "cat/3.png",
        "cat/more/2.png",
        "dog/1.png",
        "emu/2.png",
    ]


def test_links_upwards_end_and_bring_no_other_class_in(tmp_path):
    make(tmp_path, "train/cat/a/1.png", "train/dog/1.png")
    for link, target in (("train/cat/a/up", "train/cat"), ("train/cat/split", "train"), ("train/dog/root", ".")):
        (tmp_path / link).symlink_to(tmp_path / target)
    assert [name for name, _, _ in rows(tmp_path)] == ["train/cat/a/1.png", "train/dog/1.png"]
    assert {skipped.reason for skipped in list_folder(tmp_path).skipped} == {"a link to a folder that was already read"}
    assert len(list_folder(tmp_path).skipped) == 3


def test_a_maze_of_links_is_walked_once(tmp_path):
    make(tmp_path, "dog/1.png", "cat/0/1.png")
    for step in range(1, 40):  # two ways at each of 40 steps: 2^40 paths
        for way in "ab":
            make(tmp_path, f"cat/{step}/")
            (tmp_path / f"cat/{step}/{way}").symlink_to(tmp_path / f"cat/{step - 1}")
    assert len(rows(tmp_path)) == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["file"], "has files, such as 'file', but no class folders"),
        ([], "is empty"),
        ([".hidden"], "is empty"),
        (["train/1.png", "test/1.png"], "'test', 'train', but no class folders in them"),
        (["val/cat/1.png", "test/cat/1.png"], "'test', 'val', but no train"),
        (
            ["train/cat/1.png", "dog/1.png"],
            "the split folders 'train', with folders in them, and also the folders 'dog'",
        ),
    ],
)
def test_other_folders_are_refused_with_an_example(names, said, tmp_path):
    make(tmp_path, *names)
    with pytest.raises(DataError, match=said) as caught:
        list_folder(tmp_path)
    assert "DATA/cat/1.jpg" in str(caught.value)


def test_a_missing_root_and_a_file_are_refused(tmp_path):
    make(tmp_path, "file")
    with pytest.raises(DataError, match="does not exist"):
        list_folder(tmp_path / "missing")
    with pytest.raises(DataError, match="is a file, not a folder"):
        list_folder(tmp_path / "file")
