"""The division: whole, stratified, repeatable, and never one file on two sides."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.recipe import DataRecipe
from megavit.data.split.split import assign_splits, complete_splits

shares = st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)).filter(lambda pair: sum(pair) < 0.99)
labels = st.lists(st.sampled_from("abc"), max_size=80)
seeds = st.integers(0, 2**31)


def unique(count: int) -> list[str]:
    return [f"{place:016x}" for place in range(count)]


def drawn(labels: list[str], digests: list[str], shares: tuple[float, float], seed: int) -> list[str]:
    val, test = shares
    return assign_splits(labels, digests, val, test, seed)


@given(labels, shares, seeds)
def test_each_class_gives_its_share_and_keeps_one_to_train(labels, shares, seed):
    splits = drawn(labels, unique(len(labels)), shares, seed)
    assert len(splits) == len(labels)
    for label, images in Counter(labels).items():
        counts = Counter(split for split, of in zip(splits, labels, strict=True) if of == label)
        assert counts["train"] >= 1
        for split, share in zip(("val", "test"), shares, strict=True):
            if sum(shares) <= 0.6:  # beyond, keeping one to train may cost more
                assert abs(counts[split] - images * share) <= 1
            if not share:
                assert not counts[split]
            elif images >= 3:
                assert counts[split] >= 1


@given(labels, st.data(), shares, seeds)
def test_identical_files_stay_together_whatever_their_classes(labels, data, shares, seed):
    digests = data.draw(st.lists(st.sampled_from("0123456"), min_size=len(labels), max_size=len(labels)))
    sides: dict[str, str] = {}
    splits = drawn(labels, digests, shares, seed)
    for digest, split in zip(digests, splits, strict=True):
        assert sides.setdefault(digest, split) == split
    assert {label for label, split in zip(labels, splits, strict=True) if split == "train"} == set(labels)


def test_files_copied_into_another_class_are_on_one_side_and_both_classes_on_all():
    cats, dogs = unique(150), [f"dog {place}" for place in range(100)]
    labels = ["cat"] * 150 + ["dog"] * 150
    digests = [*cats, *dogs, *cats[:50]]
    splits = assign_splits(labels, digests, 0.1, 0.1, 0)
    sides = [{split for split, one in zip(splits, digests, strict=True) if one == digest} for digest in cats]
    assert all(len(side) == 1 for side in sides)
    for label in ("cat", "dog"):
        counts = Counter(split for split, of in zip(splits, labels, strict=True) if of == label)
        assert all(10 <= counts[split] <= 20 for split in ("val", "test"))


def test_a_class_of_files_that_others_have_too_keeps_one_to_train():
    classes = [name for name in "abcdefgh" for _ in range(3)]
    digests = unique(len(classes))
    shared = digests[::3]
    for seed in range(200):
        splits = assign_splits([*classes, *("z" for _ in shared)], [*digests, *shared], 0.3, 0.3, seed)
        assert "train" in splits[len(classes) :]


@given(labels, shares, seeds, st.randoms())
def test_the_order_of_the_images_does_not_matter(labels, shares, seed, random):
    digests = unique(len(labels))
    order = list(range(len(labels)))
    random.shuffle(order)
    splits = drawn(labels, digests, shares, seed)
    shuffled = drawn([labels[place] for place in order], [digests[place] for place in order], shares, seed)
    assert shuffled == [splits[place] for place in order]


@given(labels, labels, shares, seeds)
def test_another_class_moves_nothing(labels, others, shares, seed):
    splits = drawn(labels, unique(len(labels)), shares, seed)
    both = drawn([*labels, *("new" for _ in others)], unique(len(labels) + len(others)), shares, seed)
    assert both[: len(labels)] == splits


def test_seeds_and_classes_draw_differently():
    digests = unique(100)
    divisions = {tuple(assign_splits([label] * 100, digests, 0.1, 0.1, seed)) for label in "ab" for seed in range(3)}
    assert len(divisions) == 6


@pytest.mark.parametrize(
    ("images", "val", "test", "expected"),
    [
        (100, 0.1, 0.2, (70, 10, 20)),
        (3, 0.1, 0.1, (1, 1, 1)),
        (2, 0.1, 0.1, (2, 0, 0)),
        (2, 0.5, 0.4, (1, 0, 1)),
        (1, 0.9, 0.0, (1, 0, 0)),
        (3, 0.5, 0.49, (1, 1, 1)),
        (10, 0.0, 0.0, (10, 0, 0)),
        (5, 0.1, 0.0, (4, 1, 0)),
    ],
)
def test_small_classes(images, val, test, expected):
    counts = Counter(assign_splits(["a"] * images, unique(images), val, test, 0))
    assert (counts["train"], counts["val"], counts["test"]) == expected


def test_large_groups_of_identical_files_still_give_every_split_one():
    splits = assign_splits(["a"] * 9, [*"000111222"], 0.1, 0.1, 0)
    assert Counter(splits) == {"train": 3, "val": 3, "test": 3}


def test_files_that_are_all_the_same_are_for_training():
    assert set(assign_splits(["a"] * 9, ["0"] * 9, 0.2, 0.2, 0)) == {"train"}


@given(st.lists(st.sampled_from(["train", "val", "test"]), max_size=60), seeds)
def test_given_splits_stay_and_the_missing_are_taken_from_train(given_splits, seed):
    digests = unique(len(given_splits))
    splits, _ = complete_splits(
        given_splits, ["a"] * len(given_splits), digests, DataRecipe(val=0.2, test=0.2, seed=seed)
    )
    for before, after in zip(given_splits, splits, strict=True):
        assert after == before or (before == "train" and after not in given_splits)
    if given_splits.count("train") >= 3:
        assert set(splits) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("given_splits", "val", "sentence"),
    [
        ([None] * 9, 0.1, "of each class's training images, 0.1 for val and 0.2 for test, drawn with seed 4"),
        (
            ["train", "test"],
            0.1,
            "train, test as defined by the data; of each class's training images, 0.1 for val, drawn with seed 4",
        ),
        (["train", "test"], 0.0, "train, test as defined by the data"),
        (["train", "val", "test"], 0.1, "train, val, test as defined by the data"),
    ],
)
def test_the_division_is_said_in_a_sentence(given_splits, val, sentence):
    count = len(given_splits)
    assert (
        complete_splits(given_splits, ["a"] * count, unique(count), DataRecipe(val=val, test=0.2, seed=4))[1]
        == sentence
    )


def test_no_division_is_said_too():
    assert complete_splits([None], ["a"], ["0"], DataRecipe(val=0, test=0)) == (
        ["train"],
        "all images are for training",
    )
