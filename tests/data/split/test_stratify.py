"""Groups from which the splits are drawn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from megavit.data.split.split import assign_splits
from megavit.data.split.stratify import MAX_BINS, MIN_PER_BIN, stratify

labels = st.lists(
    st.frozensets(st.sampled_from("abcd")).map(lambda names: tuple(sorted(names))), min_size=1, max_size=60
)
scores = st.lists(st.floats(-100, 100), min_size=1, max_size=150)


def unique(count: int) -> list[str]:
    return [f"{place:016x}" for place in range(count)]


def test_a_class_is_its_own_group():
    assert stratify(["b", "a", "b"], unique(3)) == ["b", "a", "b"]


def test_an_image_belongs_to_its_rarest_label_and_without_one_to_a_group_of_its_own():
    targets = [("common", "rare"), ("common",), ("common",), ()]
    assert stratify(targets, unique(4)) == ["rare", "common", "common", ""]


@given(labels)
def test_every_image_is_in_a_group_of_one_of_its_labels(targets):
    for names, group in zip(targets, stratify(targets, unique(len(targets))), strict=True):
        assert group in names or (not names and not group)


def test_a_rare_label_is_in_every_split():
    targets = [("common", "rare") if place % 20 == 0 else ("common",) for place in range(200)]
    digests = unique(200)
    splits = assign_splits(stratify(targets, digests), digests, 0.1, 0.1, seed=0)
    found = Counter(split for split, names in zip(splits, targets, strict=True) if "rare" in names)
    assert found == {"train": 8, "val": 1, "test": 1}


@given(scores)
def test_ranges_of_scores_are_ordered_and_of_like_size(found):
    groups = [int(group) for group in stratify(found, unique(len(found)))]
    sizes = Counter(groups)
    assert len(sizes) <= MAX_BINS and max(sizes.values()) - min(sizes.values()) <= 1
    assert len(sizes) == 1 or min(sizes.values()) >= MIN_PER_BIN
    ranked = sorted(zip(found, groups, strict=True))
    assert [score for score, _ in sorted(ranked, key=lambda pair: (pair[1], pair[0]))] == [score for score, _ in ranked]


def test_identical_files_are_in_one_group_whatever_is_said_of_them():
    assert len(set(stratify([("a",), ("b",), ("b",)], ["x", "x", "y"])[:2])) == 1
    found = stratify([float(place) for place in range(100)] + [0.0], [*unique(100), unique(100)[99]])
    assert found[99] == found[100]
