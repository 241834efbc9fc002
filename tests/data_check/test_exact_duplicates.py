from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from megavit.data_check.exact_duplicates import DuplicatePair, duplicate_findings, find_exact_duplicates
from tests.helpers.labeled_images import make_labeled_images, make_scene, make_sized_samples

A, B, C = make_scene(0), make_scene(1), make_scene(2)


def found(images):
    return [(one.kind, one.images) for one in duplicate_findings(images, find_exact_duplicates(images.samples))]


def test_the_same_file_in_two_splits_is_a_leak_and_within_one_a_copy():
    images = make_labeled_images([A, B, A, C, C], splits=["test", "train", "train", "val", "val"])
    assert found(images) == [("leak", ("0002.png", "0000.png")), ("duplicate", ("0003.png", "0004.png"))]
    sentences = [one.message for one in duplicate_findings(images, find_exact_duplicates(images.samples))]
    assert sentences == ["the same file in train and test", "the same file twice in val"]


def test_copies_with_different_labels_are_a_conflict_too():
    images = make_labeled_images([A, A, A], [0, 1, 0])
    (_, conflict) = duplicate_findings(images, find_exact_duplicates(images.samples))
    assert conflict.kind == "label_conflict" and conflict.message == "the same file with the labels cat, dog"
    several = make_labeled_images([A, A], [(0, 1), ()], target="multilabel")
    assert found(several)[1][0] == "label_conflict"
    scores = make_labeled_images([A, A], [1.5, 1.5], target="regression", classes=())
    assert [kind for kind, _ in found(scores)] == ["duplicate"]


def test_what_is_near_says_how_near_and_joins_groups():
    images = make_labeled_images([A, B, C, A], splits=["train", "train", "test", "train"])
    (leak,) = duplicate_findings(
        images, [DuplicatePair(0, 3, 1.0), DuplicatePair(3, 1, 0.97), DuplicatePair(2, 1, 0.93)]
    )
    assert leak.images == ("0000.png", "0001.png", "0003.png", "0002.png") and leak.score == 0.93
    assert leak.message == "nearly the same image (93.0% similar) in train and test"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] != pair[1])))
def test_groups_are_the_connected_parts(pairs):
    images = replace(make_labeled_images([A]), samples=tuple(make_sized_samples(10)))
    groups = [
        set(map(int, one.images))
        for one in duplicate_findings(images, [DuplicatePair(first, second, 0.9) for first, second in pairs])
    ]
    assert all(sum(one in group for group in groups) == 1 for pair in pairs for one in pair)
    assert all(any({*pair} <= group for group in groups) for pair in pairs)
    for group in groups:  # nothing of it can be parted from the rest
        reached = {min(group)}
        for _ in group:
            reached |= {one for pair in pairs for one in pair if reached & {*pair}}
        assert reached == group
