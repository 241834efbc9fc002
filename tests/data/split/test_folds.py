"""Folds: each image is tested on once, by a model that saw neither it nor a copy of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data, scan_once
from megavit.data.split.folds import assign_folds, split_for_fold
from megavit.data.split.split import complete_splits
from megavit.errors import ConfigError, DataError

LABELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=60)


def unique(count: int) -> list[str]:
    return [f"{place:016x}" for place in range(count)]


def split_all(labels: list[str], digests: list[str], folds: int, val: float = 0.2) -> list[list[str]]:
    """The splits of each fold."""
    return [
        split_for_fold(labels, digests, DataRecipe(folds=folds, fold=fold, seed=3), val) for fold in range(1, folds + 1)
    ]


@given(LABELS, st.integers(2, 6), st.integers(0, 2**31))
def test_the_images_of_a_class_are_spread_evenly_and_so_are_all(labels, folds, seed):
    assigned = assign_folds(labels, unique(len(labels)), folds, seed)
    single = {label for label, count in Counter(labels).items() if count == 1}
    assert all((fold == 0) == (label in single) for fold, label in zip(assigned, labels, strict=True))
    for chosen in (*({label} for label in set(labels) - single), set(labels) - single):
        sizes = Counter(fold for fold, label in zip(assigned, labels, strict=True) if label in chosen)
        assert max(sizes.values(), default=0) - min((sizes[fold] for fold in range(1, folds + 1)), default=0) <= 1


@given(LABELS, st.integers(2, 6))
def test_each_image_is_tested_on_in_one_fold_and_each_class_is_always_trained_on(labels, folds):
    splits = split_all(labels, unique(len(labels)), folds)
    counts = Counter(labels)
    for label, *of_image in zip(labels, *splits, strict=True):
        assert of_image.count("test") == (counts[label] > 1)
    for of_fold in splits:
        assert {label for label, split in zip(labels, of_fold, strict=True) if split == "train"} == set(labels)


def test_copies_are_never_on_two_sides():
    digests = [f"{index // 3:016x}" for index in range(60)]
    labels = ["a" if index < 45 else "b" for index in range(60)]
    labels[2] = "b"  # a copy in the other class
    for of_fold in split_all(labels, digests, 4):
        sides: dict[str, set[str]] = {}
        for digest, split in zip(digests, of_fold, strict=True):
            sides.setdefault(digest, set()).add(split)
        assert all(len(found) == 1 for found in sides.values())


def test_validation_images_are_those_of_the_next_fold():
    labels = ["a"] * 50 + ["b"] * 25
    folds = assign_folds(labels, unique(75), 5, 3)
    for number, of_fold in enumerate(split_all(labels, unique(75), 5, val=0.1), start=1):
        chosen = [fold for fold, split in zip(folds, of_fold, strict=True) if split == "val"]
        assert chosen == [number % 5 + 1] * 6  # 0.1 of 40 and of 20
    wide = split_all(labels, unique(75), 5, val=0.4)[0]
    assert {fold for fold, split in zip(folds, wide, strict=True) if split == "val"} == {2, 3}


def test_a_class_whose_images_went_away_with_copies_of_another_is_still_trained_on():
    labels, digests = ["a", "a", "b", "b", "b"], ["0", "1", "0", "2", "3"]
    for of_fold in split_all(labels, digests, 2):
        assert {label for label, split in zip(labels, of_fold, strict=True) if split == "train"} == {"a", "b"}


def test_the_folds_are_said():
    recipe = DataRecipe(folds=5, fold=2, seed=4)
    assert complete_splits([None] * 50, ["a"] * 50, unique(50), recipe)[1] == (
        "of each class's training images, fold 2 of 5 for test, and 0.1 of the rest for val, drawn with seed 4"
    )
    splits, said = complete_splits(["val"] * 10 + ["train"] * 40, ["a"] * 50, unique(50), recipe)
    assert splits[:10] == ["val"] * 10 and "val" not in splits[10:] and splits.count("test") == 8
    assert said.startswith("train, val as defined by the data; of each class's") and "for val" not in said


@pytest.mark.parametrize("settings", [{"fold": 1}, {"folds": 3, "fold": 4}, {"folds": 1}, {"folds": 3, "fold": 0}])
def test_a_fold_that_is_none_is_refused(settings):
    with pytest.raises(ConfigError, match="fold"):
        DataRecipe(**settings)


def make_arrays(count: int) -> tuple[np.ndarray, list[str]]:
    return np.random.default_rng(0).integers(0, 255, (count, 8, 8)).astype(np.uint8), ["a", "b"] * (count // 2)


def test_test_images_that_the_data_defines_are_in_no_fold():
    pixels, labels = make_arrays(40)
    data = {"train": (pixels[:30], labels[:30]), "test": (pixels[30:], labels[30:])}
    whole = load_data(data, DataRecipe())
    kept = {sample.name for sample in whole.in_split("test")}
    for fold in (1, 2, 3):
        images = load_data(data, DataRecipe(folds=3, fold=fold))
        assert len(images.samples) == 30 and not kept & {sample.name for sample in images.samples}
        assert "10 test images as defined by the data are in no fold" in images.split_description


def test_data_that_is_scanned_once_is_split_as_if_it_were_read_again(tmp_path: Path):
    data = make_arrays(30)
    for source in (data, "demo:digits"):
        scanned = scan_once(source, DataRecipe())
        for recipe in (DataRecipe(), DataRecipe(folds=3, fold=2)):
            again, first = load_data(scanned, recipe), load_data(source, recipe)
            assert again.fingerprint() == first.fingerprint() and again.source == first.source
    with pytest.raises(DataError, match="holds none out"):
        load_data(scan_once(data, DataRecipe()), DataRecipe(val=0, folds=3, fold=1), required_splits=("val",))
