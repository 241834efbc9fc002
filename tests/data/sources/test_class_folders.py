"""Which folders are classes: the layouts of `benchmarks.data.data_layouts`, read as training reads them."""

from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from benchmarks.data.data_layouts import FORMATS, write_images
from megavit.config.recipe import DataRecipe
from megavit.data.file_names import HIDDEN, WRITTEN
from megavit.data.load import load_data
from megavit.data.sources.folder import list_folder
from megavit.errors import DataError

TWO = {"cat": 4, "dog": 4}
READ = {
    "splits by other names": ({"cat": 8, "dog": 8}, "read 'Test-Images' as test, 'dev' as val"),
    "splits with the set's name": ({"sea": 8, "street": 8}, "read 'seg_test' as test"),
    "splits, each with itself within": ({"sea": 8, "street": 8}, "read from 'seg_test/seg_test'"),
    "splits within the classes": ({"crack": 8, "sound": 8}, "the splits are within the classes"),
    "one folder down": (TWO, "the class folders are read from 'photos', the only folder at its level"),
    "three folders down, then splits": ({"cat": 8, "dog": 4}, "read from 'a/b/c'"),
    "one more folder in every split": ({"cat": 8, "dog": 4}, "read from 'test/photos', 'train/photos'"),
    "classes that hold the same folders": ({"site1": 8, "site2": 8}, "has the same subfolders, 'cat', 'dog'"),
    "one class in two Unicode forms": ({"caf\u00e9": 8, "tea": 8}, "(U+0065 U+0301) and 'caf\u00e9' (U+00E9) are one"),
    "class folders": (TWO, ""),
    "a class called train": ({"bus": 4, "train": 4, "tram": 4}, ""),
}
REFUSED = {
    "no train": "but no train",
    "splits beside classes": "and also the folders 'extra': move one or the other elsewhere",
    "splits in one class only": "'sound' is in no split",
    "folders within splits within classes": r"'bottle/test/broken': if those are the classes, use only '.*bottle'",
    "a split and a class in one name": "'testA', 'trainA' .* move them into split folders",
    "splits within splits": "named after a split and contains folders named after splits",
    "pictures and masks": "images and their annotations, not classes",
    "one class": "only one class, 'cat'",
    "one class with an image beside its folders": r"'cat', 'dog', are the classes, pass '.*photos'",
}


@pytest.mark.parametrize("name", READ)
def test_a_plain_layout_is_read_and_what_is_not_plain_is_said(name, tmp_path):
    images = load_data(FORMATS[name](tmp_path), DataRecipe())
    classes, said = READ[name]
    counts = images.class_counts()
    assert {label: sum(counts[split][label] for split in counts) for label in images.classes} == classes
    assert said in "\n".join(images.notes) and bool(images.notes) == bool(said)


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_may_mean_two_things_is_refused_with_what_to_do(name, tmp_path):
    with pytest.raises(DataError, match=REFUSED[name]):
        load_data(FORMATS[name](tmp_path), DataRecipe())


def test_plain_class_folders_are_those_of_torchvision(tmp_path):
    data = FORMATS["class folders"](tmp_path)
    peer, images = ImageFolder(str(data)), load_data(data, DataRecipe())
    assert list(images.classes) == peer.classes
    assert [(sample.name, sample.label) for sample in images.samples] == [
        (Path(path).relative_to(data).as_posix(), label) for path, label in peer.samples
    ]


def test_folders_of_systems_are_neither_classes_nor_images_at_any_depth(tmp_path):
    data = FORMATS["folders of systems"](tmp_path)
    assert "@eaDir" in ImageFolder(str(data)).classes  # of which torchvision makes a class
    images = load_data(data, DataRecipe())
    assert images.classes == ("cat", "dog") and len(images.samples) == 8
    assert images.skipped_by_reason() == {HIDDEN: 20}


def test_what_megavit_wrote_among_the_images_is_no_class(tmp_path):
    images = load_data(FORMATS["output of our own"](tmp_path), DataRecipe())
    assert images.classes == ("cat", "dog")
    assert images.skipped_by_reason() == {WRITTEN: 5}
    write_images(tmp_path, "cat")
    next((tmp_path / "cat").iterdir()).rename(tmp_path / "cat" / "1.explained.png")
    assert load_data(tmp_path, DataRecipe()).skipped_by_reason() == {WRITTEN: 6}


def test_a_model_that_knows_the_classes_needs_neither_two_of_them_nor_a_split_to_train_on(tmp_path):
    write_images(tmp_path, "test/cat")
    with pytest.raises(DataError, match="no train"):
        load_data(tmp_path, DataRecipe())
    images = load_data(tmp_path, DataRecipe(val=0, test=0), known_classes=["cat", "dog"])
    assert images.classes == ("cat",) and images.split_sizes() == {"train": 0, "val": 0, "test": 4}
    write_images(tmp_path / "one", "dog/2019", "dog/2020")
    assert list_folder(tmp_path / "one", {"cat", "dog"}).classes == ("dog",)
    assert list_folder(tmp_path / "one").classes == ("2019", "2020")


@pytest.mark.parametrize("source", ["", "  "])
def test_an_empty_name_is_not_the_current_folder(source, tmp_path, monkeypatch):
    monkeypatch.chdir(write_images(tmp_path, "cat", "dog"))
    with pytest.raises(DataError, match="the name of the data is empty"):
        load_data(source, DataRecipe())
