"""Labels that a folder has are taken over with their splits, once, and corrected like others."""

from pathlib import Path

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.errors import ConfigError
from megavit.labeling.existing import import_labels
from megavit.labeling.store import LabelStore, Mark
from tests.helpers.label_server import write_images

NAMES = [
    f"{split}/{label}/{number}.png" for split in ("train", "test") for label in ("cat", "dog") for number in range(4)
]


def test_class_folders_are_read_as_before_until_a_label_is_corrected(tmp_path: Path) -> None:
    folder = write_images(tmp_path, NAMES)
    (folder / "train" / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n")
    before = load_data(folder, DataRecipe())
    assert import_labels(folder) == "classification"
    after = load_data(folder, DataRecipe())
    assert {one.name: (one.label, one.split) for one in after.samples} == {
        one.name: (one.label, one.split) for one in before.samples
    }
    store = LabelStore(folder)
    store.add("1", [Mark("test/cat/0.png", "labeled", ("dog",), seen="existing")], "ada")
    assert import_labels(folder) == "classification"  # not again
    assert store.last("train/cat/broken.png") is not None  # so that the check tells of it
    corrected = {one.name: one for one in load_data(folder, DataRecipe()).samples}
    assert corrected["test/cat/0.png"].label == 1
    assert corrected["test/cat/0.png"].split == "test"


def test_a_table_of_several_labels_is_taken_over(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "metadata.csv").write_text("file_name,labels,split\na.png,cat|night,train\nb.png,,train\n")
    assert import_labels(tmp_path) == "multilabel"
    decisions = LabelStore(tmp_path, "multilabel").decisions
    assert [(one.path, one.labels, one.split) for one in decisions] == [
        ("a.png", ("cat", "night"), "train"),
        ("b.png", (), "train"),
    ]


def test_numbers_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "metadata.csv").write_text("file_name,score\na.png,1\nb.png,2\n")
    with pytest.raises(ConfigError, match="numbers"):
        import_labels(tmp_path)
