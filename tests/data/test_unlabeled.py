"""Images to learn from without labels: every structure of folders, with classes where every image has one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages
from megavit.data.load import load_data
from megavit.data.unlabeled import NO_CLASS, load_unlabeled, select_new_images
from megavit.errors import DataError
from tests.helpers.digits import make_digits_folder


def load(folder: Path) -> LabeledImages:
    return load_unlabeled(folder, DataRecipe())


def test_folders_are_classes_and_their_test_images_are_left_out(tmp_path: Path) -> None:
    for split, chosen in (("train", slice(0, 12)), ("val", slice(12, 15)), ("test", slice(15, 20))):
        make_digits_folder(tmp_path / split, range(2), chosen)
    found = load(tmp_path)
    assert found.classes == ("0", "1") and found.split_sizes() == {"train": 30, "val": 0, "test": 0}
    assert found.split_description == "without labels; 10 test images were left out"
    assert [sample.label for sample in found.samples] == [int(sample.name.split("/")[1]) for sample in found.samples]


def test_images_of_any_structure_are_found_and_have_no_class(tmp_path: Path) -> None:
    make_digits_folder(tmp_path / "a" / "b", range(2), slice(0, 8))
    make_digits_folder(tmp_path / "c", range(2, 3), slice(0, 8))
    (tmp_path / "c" / "2" / "000.png").rename(tmp_path / "alone.png")
    (tmp_path / "notes.txt").write_text("no image")
    found = load(tmp_path)
    assert len(found.samples) == 24 and found.classes == (NO_CLASS,)
    assert "alone.png" in [sample.name for sample in found.samples]
    assert [skipped.name for skipped in found.skipped] == ["notes.txt"]


def test_files_beside_class_folders_do_not_take_the_classes_away(tmp_path: Path) -> None:
    make_digits_folder(tmp_path / "data", range(3), slice(0, 8))
    (tmp_path / "data" / "README.md").write_text("about these images")
    assert load(tmp_path / "data").classes == ("0", "1", "2")


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    make_digits_folder(tmp_path / "few", range(2), slice(0, 5))
    with pytest.raises(DataError, match="has 10 images to learn from without labels, but at least 16 are needed"):
        load(tmp_path / "few")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nothing")


def test_new_images_are_those_that_no_labeled_file_equals(tmp_path: Path) -> None:
    for split, chosen in (("train", slice(0, 6)), ("val", slice(6, 9)), ("test", slice(9, 12))):
        make_digits_folder(tmp_path / "labeled" / split, range(2), chosen)
    make_digits_folder(tmp_path / "heap", range(1), slice(5, 30))
    shutil.copy(tmp_path / "heap" / "0" / "024.png", tmp_path / "heap" / "twice.png")
    (tmp_path / "heap" / "broken.png").write_bytes(b"no image")
    found = select_new_images(load(tmp_path / "heap"), load_data(tmp_path / "labeled", DataRecipe()))
    assert found.refused_by_reason() == {
        "the same file as a validation image": 3,
        "the same file as a test image": 3,
        "the same file as a training image": 1,
        "the same file as another image without a label": 1,
        "not an image (.png)": 1,
    }
    assert len(found.samples) == 25 - 7


def test_images_that_the_model_does_not_take_are_refused_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    make_digits_folder(tmp_path / "labeled", range(2), slice(0, 10))
    labeled = load_data(tmp_path / "labeled", DataRecipe())
    (tmp_path / "bands").mkdir()
    for number in range(16):
        np.save(tmp_path / "bands" / f"{number}.npy", np.full((8, 8, 5), number, np.uint8))
    with pytest.raises(DataError, match=r"no image of .*bands.* \(16: 5 channels, but the labeled images have 3\)"):
        select_new_images(load(tmp_path / "bands"), labeled)
    with pytest.raises(DataError, match="the same file as a training image"):
        select_new_images(load(tmp_path / "labeled"), labeled)
