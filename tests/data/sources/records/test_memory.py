"""Labeled images given as Python objects."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import DataRecipe
from megavit.data.image_dataset import ImageDataset, load_into_memory
from megavit.data.load import load_data
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.sources.records.memory import IN_MEMORY
from megavit.errors import DataError

RECIPE = DataRecipe(val=0.2, test=0.2)


def pixels(count: int = 20, shape: tuple[int, ...] = (12, 10, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def names(count: int = 20) -> list[str]:
    return ["cat" if index % 2 else "dog" for index in range(count)]


class Pairs(torch.utils.data.Dataset):
    """A data set of torch with class names, which has a length and items only."""

    def __init__(self, images, labels, classes=("zebra", "ant")):
        self.images, self.labels, self.classes = images, labels, classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def test_arrays_are_read_split_by_class_and_keep_their_order():
    images = load_data((pixels(), names()), RECIPE)
    assert (images.source, images.root, images.classes) == (IN_MEMORY, None, ("cat", "dog"))
    assert [sample.name for sample in images.samples[:2]] == ["0000", "0001"]
    assert {(sample.height, sample.width, sample.channels) for sample in images.samples} == {(12, 10, 3)}
    assert images.class_counts()["val"] == {"cat": 2, "dog": 2} == images.class_counts()["test"]
    for sample, expected in zip(images.samples, pixels(), strict=True):
        assert np.array_equal(images.load_pixels(sample).permute(1, 2, 0).numpy(), expected)


def test_the_same_pixels_in_any_form_are_the_same_data(tmp_path):
    array, labels = pixels(), np.array([index % 2 for index in range(20)])
    forms = [
        (array, labels),
        (torch.from_numpy(array).permute(0, 3, 1, 2), torch.from_numpy(labels)),
        (array / 255.0, labels.tolist()),
        (torch.from_numpy(array / 255.0).float().permute(0, 3, 1, 2), list(labels)),
        ([Image.fromarray(image) for image in array], labels.astype(np.uint8)),
        ([*array[:10], *(Image.fromarray(image) for image in array[10:])], pd.Series(labels)),
        list(zip(array, labels, strict=True)),
        pd.DataFrame({"image": list(array), "label": labels}),
    ]
    found = {load_data(form, RECIPE).fingerprint() for form in forms}
    assert len(found) == 1
    assert load_data((array, 1 - labels), RECIPE).fingerprint() not in found
    assert load_data((array[..., ::-1], labels), RECIPE).fingerprint() not in found


def test_arrays_are_copied():
    array = pixels()
    images = load_data((array, names()), RECIPE)
    before = images.load_pixels(images.samples[0]).clone()
    array[:] = 0
    assert torch.equal(images.load_pixels(images.samples[0]), before)


def test_sizes_and_equal_bytes_of_different_shape_are_told_apart():
    images = load_data(
        ([np.zeros((4, 6), np.uint8), np.zeros((6, 4), np.uint8), *pixels(4)], [0, 1, 0, 1, 0, 1]), RECIPE
    )
    first, second = images.samples[:2]
    assert (first.height, first.width, second.height, second.width) == (4, 6, 6, 4)
    assert first.digest != second.digest


def test_paths_bytes_and_images_may_be_mixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index, array in enumerate(pixels(6)):
        Image.fromarray(array).save(f"{index}.png")
    given = ["0.png", tmp_path / "1.png", Path("2.png").read_bytes(), {"bytes": None, "path": "3.png"}, pixels(6)[4]]
    images = load_data((given, [0, 1, 0, 1, 0]), DataRecipe(val=0, test=0))
    assert images.root == tmp_path
    assert {sample.name for sample in images.samples} == {
        "0.png",
        "0002",
        "0004",
        str(tmp_path / "1.png"),
        "3.png",
    }
    for sample in images.samples:
        index = int(Path(sample.name).stem)
        assert np.array_equal(images.load_pixels(sample).permute(1, 2, 0).numpy(), pixels(6)[index])


def test_a_file_that_changes_after_it_was_scanned_is_noticed(tmp_path):
    for index, array in enumerate(pixels(6)):
        Image.fromarray(array).save(tmp_path / f"{index}.png")
    images = load_data(([tmp_path / f"{index}.png" for index in range(6)], [0, 1] * 3), DataRecipe(val=0, test=0))
    Image.fromarray(255 - pixels(6)[0]).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="has changed since"):
        images.load_pixels(images.samples[0])


@pytest.mark.parametrize(
    ("labels", "target", "classes"),
    [
        ([10, 9, 10, 9], "classification", ("9", "10")),
        (["b", "a", "b", "a"], "classification", ("a", "b")),
        ([True, False, True, False], "classification", ("False", "True")),
        ([["b", "a"], ("a",), [], {"b"}], "multilabel", ("a", "b")),
        ([[2], [10, 2], [], [10]], "multilabel", ("2", "10")),
        ([0.5, 1.5, 2.5, 3.5], "regression", ()),
        (np.array([0.5, 1.5, 2.5, 3.5], np.float32), "regression", ()),
        (pd.Categorical(["b", "a", "b", "a"]), "classification", ("a", "b")),
    ],
)
def test_labels_say_by_their_type_what_they_are(labels, target, classes):
    images = load_data((pixels(4), labels), DataRecipe(val=0, test=0))
    assert (images.target, images.classes) == (target, classes)


def test_whole_scores_of_few_values_are_remarked_on():
    (note,) = load_data((pixels(4), [0.0, 1.0, 0.0, 1.0]), DataRecipe(val=0, test=0)).notes
    assert "pass integers if they are classes" in note


def test_a_data_set_of_torch_names_its_classes_in_order():
    images = load_data(Pairs(pixels(), [index % 2 for index in range(20)]), RECIPE)
    assert images.classes == ("zebra", "ant")
    assert [sample.label for sample in images.samples[:2]] == [0, 1]


def test_equal_class_names_stay_two_classes_and_absent_ones_are_told():
    classes = ["crane", "owl", "crane", ("tench", "Tinca tinca"), "mole"]
    images = load_data(Pairs(pixels(), [(0, 2, 3)[index % 3] for index in range(20)], classes), RECIPE)
    assert images.classes == ("crane (0)", "crane (2)", "tench, Tinca tinca")
    assert images.notes == ("no image is of owl, mole: the model will not know these classes",)


def test_a_dict_by_split_says_the_splits():
    data = {
        "train": (pixels(12), names(12)),
        "validation": (pixels(4), names(4)),
        "test": list(zip(pixels(4), names(4), strict=True)),
    }
    images = load_data(data, RECIPE)
    assert images.split_sizes() == {"train": 12, "val": 4, "test": 4}
    assert images.samples[0].name == "test/0000"


def test_a_frame_has_the_columns_of_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index, array in enumerate(pixels(8)):
        Image.fromarray(array).save(tmp_path / f"{index}.png")
    frame = pd.DataFrame(
        {
            "filename": [f"{index}.png" for index in range(8)],
            "breed": names(8),
            "part": ["train"] * 4 + ["val"] * 2 + ["test"] * 2,
            "split": ["train"] * 4 + ["val"] * 2 + ["test"] * 2,
            "price": [float(index) + 0.5 for index in range(8)],
        }
    )
    images = load_data(frame, DataRecipe(label_column="breed"))
    assert images.classes == ("cat", "dog") and images.split_sizes() == {"train": 4, "val": 2, "test": 2}
    assert load_data(frame, DataRecipe(label_column="price")).target == "regression"
    moved = load_data(frame, DataRecipe(label_column="breed", image_root=str(tmp_path)))
    assert moved.fingerprint() == images.fingerprint()
    with pytest.raises(DataError, match=r"'the data frame'.*filename, breed, part, split, price.*--label-column"):
        load_data(frame, RECIPE)


def test_a_polars_frame_is_read_as_one_of_pandas():
    polars = pytest.importorskip("polars")
    array = pixels(6)
    frame = pd.DataFrame({"image": [bytes_of(image) for image in array], "label": names(6)})
    assert load_data(polars.from_pandas(frame), RECIPE).fingerprint() == load_data(frame, RECIPE).fingerprint()


def bytes_of(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def test_an_image_that_cannot_be_read_is_skipped_with_its_reason():
    damaged = bytes_of(pixels(1)[0])[:60]
    images = load_data(([damaged, b"text", Image.new("L", (1, 500)), *pixels(4)], [0, 1, 0, 0, 1, 0, 1]), RECIPE)
    assert [(skipped.name, skipped.reason) for skipped in images.skipped] == [
        ("0000", "damaged or truncated"),
        ("0001", "not an image"),
        ("0002", "1 × 500 pixels: one side is more than 100 times the other"),
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (5, "data of type int cannot be read: it can be a path, or"),
        (np.zeros((4, 8, 8)), "data of type ndarray cannot be read"),
        ((pixels(4), names(3)), "there are 4 images, but 3 labels"),
        ((pixels(4), names(4), 1), r"a tuple must be \(images, labels\), got 3 items"),
        ((pixels(4).reshape(4, -1), names(4)), r"an array of shape \(4, 360\).*reshape it to its height and width"),
        ((pixels(4), "abcd"), "the labels in .* must be a sequence, got str"),
        (([1, 2], ["a", "b"]), "image 0 is of type int: an image can be a path"),
        ((pixels(4) * 1.0, names(4)), r"image 0: floating-point pixels must be between 0 and 1, but .*without normal"),
        ((pixels(4).astype(np.int64), names(4)), "image 0: pixels must be uint8"),
        ((pixels(4).transpose(0, 3, 1, 2), names(4)), "channels seem to be first"),
        ((pixels(4), ["a", "b", None, "a"]), "image 2 has no label"),
        ((pixels(4), [0.5, float("nan"), 1, 2]), "image 1 has no label"),
        ((pixels(4), ["a", "nan", "b", "a"]), "the label of image 1 is 'nan'"),
        ((pixels(4), ["a", 1.5, "b", "a"]), r"the label of image 1 is 1.5 \(regression\), but that of image 0 is 'a'"),
        ((pixels(4), np.eye(4)), r"a row of indicators.*argmax"),
        ((pixels(4), np.eye(4, dtype=int)), r"a row of indicators.*argmax"),
        ((pixels(4), [{"a": 1}] * 4), "the label of image 0 is .* a dict"),
        ((pixels(4), [0.5, float("inf"), 1.5, 2.5]), "the score of image 1 must be a finite number"),
        ((pixels(4), ["a"] * 4), "has only one class, 'a'"),
        (Pairs(pixels(4), [0, 1, 2, 0]), "the label of image 2 is 2, but there are 2 class names"),
        (Pairs(pixels(4), [0, 1, -1, 0]), "-1 usually means that it has no label"),
        ([pixels(1)[0], "a"], r"item 0 of the data must be a pair"),
        ({"cat": pixels(4)}, "a dict of data must have splits as keys"),
        ({}, "the dict is empty"),
        ((pixels(0), []), "'images in memory' has no images"),
    ],
)
def test_other_data_is_refused_by_what_came_and_what_was_expected(data, said):
    with pytest.raises(DataError, match=said):
        load_data(data, RECIPE)


@pytest.mark.parametrize("given", ["pixels", "bytes"])
def test_worker_processes_give_the_same_images(given):
    array = pixels(150)
    data = list(array) if given == "pixels" else [bytes_of(image) for image in array]
    images = load_data((data, [index % 2 for index in range(150)]), DataRecipe(val=0, test=0))
    assert images.is_decoded == (given == "pixels")
    dataset = ImageDataset(images, images.samples, Preprocessing(height=8, width=8, channels=3))
    expected = torch.stack([dataset[index] for index in range(len(dataset))])
    assert torch.equal(torch.stack(list(load_into_memory(dataset, 2))), expected)
    batches = [*iter_batches(dataset, sequential_batches(150, 64), 2)]
    assert torch.equal(torch.stack([image for batch in batches for image in batch]), expected)


def test_more_images_than_the_memory_holds_are_refused_before_it_is_full(monkeypatch):
    monkeypatch.setattr("megavit.data.sources.records.image_store.main_memory", lambda: 4000)
    with pytest.raises(DataError, match=r"more than 0\.0 GiB, 60% of the main memory: save them as files"):
        load_data((pixels(), names()), RECIPE)
