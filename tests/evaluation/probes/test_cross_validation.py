import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.evaluation.probes.cross_validation import make_folds


@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(2, 6), st.integers(0, 3))
def test_every_image_is_held_back_once_and_classes_are_spread(labels, count, seed):
    targets = torch.tensor(labels)
    found = make_folds(targets, count, seed)
    assert len(found) == min(count, len(labels))
    assert torch.cat([fold.held_out for fold in found]).sort().values.tolist() == list(range(len(labels)))
    for learned, held in found:
        assert sorted(torch.cat([learned, held]).tolist()) == list(range(len(labels)))
        assert len(learned) and len(held)
    for label in set(labels):
        sizes = [int((targets[fold.held_out] == label).sum()) for fold in found]
        assert max(sizes) - min(sizes) <= 1


@given(st.integers(2, 40), st.integers(0, 3))
def test_labels_are_divided_too_and_the_seed_decides(images, seed):
    targets = torch.zeros(images, 3, dtype=torch.bool)
    first, second = make_folds(targets, seed=seed), make_folds(targets, seed=seed)
    assert all(torch.equal(one.held_out, other.held_out) for one, other in zip(first, second, strict=True))
    sizes = [len(fold.held_out) for fold in first]
    assert sum(sizes) == images and max(sizes) - min(sizes) <= 1


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdefgh")), min_size=2, max_size=60))
def test_identical_files_are_in_one_fold_whatever_their_classes(images):
    digests = [digest for _, digest in images]
    found = make_folds(torch.tensor([label for label, _ in images]), digests=digests)
    assert torch.cat([fold.held_out for fold in found]).sort().values.tolist() == list(range(len(images)))
    assert all(len(fold.train) and len(fold.held_out) for fold in found)
    if len(set(digests)) > 1:
        for learned, held in found:
            assert not {digests[place] for place in learned} & {digests[place] for place in held}


def test_few_distinct_files_that_share_a_fold_are_separated():
    digests = ["a"] * 4 + ["b"]
    for seed in range(20):
        for fold in make_folds(torch.tensor([0, 0, 0, 0, 0]), digests=digests, seed=seed):
            assert not {digests[i] for i in fold.train} & {digests[i] for i in fold.held_out}
