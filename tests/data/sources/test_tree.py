"""A folder of images is one class, named after it, with its splits if it has any."""

from pathlib import Path

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_class_folder
from megavit.data.sources.tree import list_class_folder
from megavit.errors import DataError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not an image")
    return root


def test_subfolders_belong_to_the_class_unless_all_are_splits(tmp_path: Path) -> None:
    plain = list_class_folder(make(tmp_path / "cat", "1.jpg", "old/2.jpg", "train/3.jpg", ".hidden.jpg"))
    assert plain.classes == ("cat",) and plain.root == tmp_path
    assert [(one.name, one.target, one.split) for one in plain.candidates] == [
        ("cat/1.jpg", "cat", None),
        ("cat/old/2.jpg", "cat", None),
        ("cat/train/3.jpg", "cat", None),
    ]
    assert [one.name for one in plain.skipped] == ["cat/.hidden.jpg"]
    splits = list_class_folder(make(tmp_path / "dog", "train/1.jpg", "Validation/2.jpg"))
    assert {(one.name, one.split) for one in splits.candidates} == {
        ("dog/train/1.jpg", "train"),
        ("dog/Validation/2.jpg", "val"),
    }


def test_a_folder_of_several_classes_or_none_is_refused(tmp_path: Path) -> None:
    for names in (("a/1.jpg", "b/2.jpg"), ("train/a/1.jpg", "test/a/2.jpg")):
        folder = make(tmp_path / names[0].replace("/", "-"), *names)
        with pytest.raises(DataError, match="has no images of its own, but folders, such as"):
            list_class_folder(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no files"):
        list_class_folder(tmp_path / "empty")
    with pytest.raises(DataError, match="is a file, not a folder"):
        list_class_folder(make(tmp_path / "cat", "1.jpg") / "1.jpg")
    with pytest.raises(DataError, match=r"has no readable image; 'cat/1\.jpg': not an image"):
        load_class_folder(tmp_path / "cat", DataRecipe())
