"""Class folders of labeled images are what training reads, whatever the names; the images stay where they are."""

from pathlib import Path

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.errors import ConfigError, DataError, OutputError
from megavit.labeling.class_folders import make_class_folders
from megavit.labeling.store import LabelStore, Mark
from tests.helpers.label_server import write_images

NAMES = [*(f"{number}.png" for number in range(8)), "sub/0.png", "sub__0.png", "train/1.png"]


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    heap = write_images(tmp_path / "heap", NAMES)
    store = LabelStore(heap)
    for number, name in enumerate(NAMES):
        store.add(f"{number}", [Mark(name, "labeled", ("cat" if number % 2 else "dog",))], "ada")
    store.add("x", [Mark("7.png", "excluded", seen="7")], "ada")
    return heap


@pytest.mark.parametrize("copy", [False, True])
def test_training_reads_the_same_images_and_classes(heap: Path, tmp_path: Path, copy: bool) -> None:
    made = make_class_folders(heap, tmp_path / "classes", copy=copy)
    before, after = load_data(heap, DataRecipe()), load_data(tmp_path / "classes", DataRecipe())
    assert sorted((one.digest, one.label) for one in before.samples) == sorted(
        (one.digest, one.label) for one in after.samples
    )
    assert made.counts == {"cat": 4, "dog": 6} and made.missing == ()
    names = sorted(path.name for path in (tmp_path / "classes" / "dog").iterdir())
    assert names == ["0.png", "2.png", "4.png", "6.png", "sub__0.png", "train__1.png"]
    assert (heap / "0.png").samefile(tmp_path / "classes" / "dog" / "0.png") is not copy
    assert all((heap / name).is_file() for name in NAMES)


def test_names_that_meet_are_told_apart(tmp_path: Path) -> None:
    heap = write_images(tmp_path / "heap", ["sub/0.png", "sub__0.png", "SUB__0.png"])
    LabelStore(heap).add(
        "1", [Mark(name, "labeled", ("cat",)) for name in ("sub/0.png", "sub__0.png", "SUB__0.png")], ""
    )
    make_class_folders(heap, tmp_path / "classes")
    assert len(list((tmp_path / "classes" / "cat").iterdir())) == 3


def test_an_image_that_is_gone_is_named(heap: Path, tmp_path: Path) -> None:
    (heap / "0.png").unlink()
    assert make_class_folders(heap, tmp_path / "classes").missing == ("0.png",)


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "con:", "train", "a."])
def test_a_class_that_is_no_name_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    heap = write_images(tmp_path / "heap", ["0.png"])
    LabelStore(heap).add("1", [Mark("0.png", "labeled", (name,))], "ada")
    with pytest.raises(DataError, match="no folder can be named"):
        make_class_folders(heap, tmp_path / "classes")
    assert not (tmp_path / "classes").exists()


def test_several_labels_and_folders_in_use_are_refused(heap: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="inside the data folder"):
        make_class_folders(heap, heap / "classes")
    with pytest.raises(OutputError, match="not empty"):
        make_class_folders(heap, heap)
    several = write_images(tmp_path / "several", ["0.png"])
    LabelStore(several, "multilabel").add("1", [Mark("0.png", "labeled", ("cat", "dog"))], "ada")
    with pytest.raises(ConfigError, match="several labels"):
        make_class_folders(several, tmp_path / "classes")
