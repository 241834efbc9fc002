"""From a folder, a table or a demo set to labeled images."""

import os
from pathlib import Path

import numpy as np
import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.dataset import Skipped
from megavit.data.load import load_data
from megavit.errors import DataError
from tests.helpers.difficult_images import encode_image

RECIPE = DataRecipe(val=0.2, test=0.2)


def image(number: int) -> bytes:
    return encode_image(np.full((4, 6), number, np.uint8), "PNG")


def fill(root: Path, *folders: str, count: int = 5) -> Path:
    """`count` different images in each folder."""
    for place, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number}.png").write_bytes(image(10 * place + number))
    return root


def test_a_folder_is_read_divided_and_sorted(tmp_path):
    images = load_data(fill(tmp_path, "dog", "cat"), RECIPE)
    assert images.source == str(tmp_path)
    assert images.root == tmp_path
    assert images.classes == ("cat", "dog")
    assert [sample.name for sample in images.samples] == [
        f"{name}/{n}.png" for name in ("cat", "dog") for n in range(5)
    ]
    assert {(sample.name[:3], sample.label) for sample in images.samples} == {("cat", 0), ("dog", 1)}
    assert {(sample.height, sample.width, sample.channels) for sample in images.samples} == {(4, 6, 1)}
    assert images.class_counts() == {"train": {"cat": 3, "dog": 3}} | {s: {"cat": 1, "dog": 1} for s in ("val", "test")}


def test_splits_of_the_folder_are_kept_and_the_missing_one_is_taken_from_train(tmp_path):
    images = load_data(fill(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog"), RECIPE)
    assert images.class_counts() == {
        "train": {"cat": 4, "dog": 4},
        "val": {"cat": 1, "dog": 1},
        "test": {"cat": 5, "dog": 5},
    }
    assert {sample.split for sample in images.samples if sample.name.startswith("test/")} == {"test"}


@pytest.mark.parametrize("as_text", [True, False])
def test_a_table_is_read_beside_its_images(as_text, tmp_path):
    fill(tmp_path, "photos")
    table = tmp_path / "data.csv"
    lines = ["path,label", *(f"photos/{n}.png,{'cat' if n < 3 else 'dog'}" for n in (4, 0, 2, 3, 1, 9))]
    table.write_text("\n".join(lines))
    images = load_data(str(table) if as_text else table, RECIPE)
    assert [sample.name for sample in images.samples] == [f"photos/{n}.png" for n in range(5)]
    assert images.skipped == (Skipped("photos/9.png", "no such file"),)


def test_a_demo_set_is_read():
    assert len(load_data("demo:digits", RECIPE).samples) == 1797


def test_identical_files_of_a_class_are_on_one_side(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(12):
            (tmp_path / name / f"{number}.png").write_bytes(image(number // 2))
    images = load_data(tmp_path, RECIPE)
    sides: dict[tuple[int, str], str] = {}
    for sample in images.samples:
        assert sides.setdefault((sample.label, sample.digest), sample.split) == sample.split
    assert set(sides.values()) == {"train", "val", "test"}


def test_a_class_without_readable_images_is_named_with_the_reasons(tmp_path):
    fill(tmp_path, "cat", "dog")
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu/1.svg").write_text("<svg/>")
    (tmp_path / "emu/2.png").touch()
    with pytest.raises(DataError, match=r"'emu'.*'emu/1.svg': not an image \(.svg\); 'emu/2.png': the file is empty"):
        load_data(tmp_path, RECIPE)


def test_an_empty_class_is_named(tmp_path):
    (fill(tmp_path, "cat", "dog") / "emu").mkdir()
    with pytest.raises(DataError, match=r"the class 'emu' .* has no readable image. Add images"):
        load_data(tmp_path, RECIPE)


def test_a_class_that_is_not_trained_on_is_named(tmp_path):
    fill(tmp_path, "train/cat", "train/dog", "val/cat", "val/emu")
    with pytest.raises(DataError, match=r"images of 'emu' for validation or test, but none .* for training"):
        load_data(tmp_path, RECIPE)


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="only one class, 'cat'"):
        load_data(fill(tmp_path, "cat"), RECIPE)


def test_anything_else_is_refused_saying_what_data_can_be(tmp_path):
    (tmp_path / "model.bin").touch()
    for source, said in ((tmp_path / "model.bin", "is a file of another kind"), ("nowhere", "does not exist")):
        with pytest.raises(
            DataError, match=rf"(?s)a folder, a table .*shards, hf:NAME, or demo:digits; .*{said}.*DATA/cat"
        ):
            load_data(source, RECIPE)


def test_progress_is_told(tmp_path):
    calls: list[tuple[int, int]] = []
    load_data(fill(tmp_path, "cat", "dog"), RECIPE, lambda done, total: calls.append((done, total)))
    assert calls == [(10, 10)]


def test_a_class_whose_name_is_not_text_is_refused(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    with pytest.raises(DataError, match=r"'caf\\udce9'.*not valid UTF-8: rename"):
        load_data(fill(tmp_path, "tea", name), RECIPE)


def test_tables_of_labels_and_scores_are_read_and_divided(tmp_path):
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(image(number))
    lines = [f"{n}.png,{'a|b' if n % 3 == 0 else 'b' if n % 3 == 1 else ''}" for n in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,labels", *lines]))
    images = load_data(tmp_path / "labels.csv", RECIPE)
    assert images.target == "multilabel" and images.classes == ("a", "b")
    assert {sample.labels for sample in images.samples} == {(0, 1), (1,), ()}
    assert all(count["a"] and count["b"] > count["a"] for count in images.class_counts().values())

    (tmp_path / "score.csv").write_text("\n".join(["path,score", *(f"{n}.png,{n / 2}" for n in range(30))]))
    images = load_data(tmp_path / "score.csv", RECIPE)
    assert images.target == "regression" and not images.classes
    for split in ("train", "val", "test"):
        scores = [sample.value for sample in images.in_split(split)]
        assert min(scores) < 5 and max(scores) >= 10
    assert "tenth of the training images by score" in images.split_description


def test_a_table_whose_images_have_no_labels_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("path,labels\n1.png,\n")
    with pytest.raises(DataError, match="fill in the column labels"):
        load_data(tmp_path / "data.csv", RECIPE)


def test_a_label_without_readable_images_is_named(tmp_path):
    (tmp_path / "1.png").write_bytes(image(1))
    (tmp_path / "data.csv").write_text("path,labels\n1.png,a\n2.png,a|b\n")
    with pytest.raises(DataError, match=r"the class 'b' .* '2.png': no such file"):
        load_data(tmp_path / "data.csv", RECIPE)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_that_is_needed_and_that_the_recipe_leaves_empty_is_refused_by_its_setting(tmp_path, split):
    folder = fill(tmp_path, "train/cat", "train/dog", f"{split}/cat", f"{split}/dog")
    recipe = DataRecipe(val=0, test=0.2) if split == "val" else DataRecipe(val=0.2, test=0)
    load_data(folder, recipe, required_splits=("val", "test"))  # the data has it
    for source in (folder / "train", "demo:digits"):
        with pytest.raises(DataError, match=rf"\[data\] {split} = 0.*{split} = 0.1"):
            load_data(
                source, recipe, lambda done, total: pytest.fail("an image was read"), required_splits=("val", "test")
            )


def test_images_of_other_channels_than_most_are_skipped_with_their_reason(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            np.save(tmp_path / name / f"{i}.npy", np.full((6, 6, 5), i, np.uint8))
    np.save(tmp_path / "a" / "odd.npy", np.zeros((6, 6, 3), np.uint8))
    images = load_data(tmp_path, DataRecipe())
    assert {sample.channels for sample in images.samples} == {5}
    assert images.skipped == (Skipped("a/odd.npy", "3 channels, but most images have 5"),)


def test_gray_color_and_opacity_go_together(tmp_path):
    for name, channels in (("a", 1), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        for i in range(3):
            np.save(tmp_path / name / f"{i}.npy", np.full((6, 6, channels), i, np.uint8))
    images = load_data(tmp_path, DataRecipe())
    assert {sample.channels for sample in images.samples} == {1, 3, 4} and not images.skipped
