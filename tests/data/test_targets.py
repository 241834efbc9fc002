"""Targets as tensors, and that one kind is never taken for another."""

import pytest
import torch

from megavit.data.dataset import Sample, TargetValue
from megavit.data.targets import num_outputs, target_tensor


def samples(*targets: TargetValue) -> list[Sample]:
    return [Sample(f"{place}.png", target, "train", 4, 4, 1, "0") for place, target in enumerate(targets)]


def test_each_kind_has_its_tensor():
    assert torch.equal(target_tensor(samples(2, 0), "classification", 3), torch.tensor([2, 0]))
    expected = torch.tensor([[True, False, True], [False, False, False]])
    assert torch.equal(target_tensor(samples((0, 2), ()), "multilabel", 3), expected)
    assert torch.equal(target_tensor(samples(0.5, -3.0), "regression", 0), torch.tensor([0.5, -3.0]))


@pytest.mark.parametrize(("target", "own"), [(1, "label"), ((1,), "labels"), (1.0, "value")])
def test_a_target_is_only_read_as_what_it_is(target, own):
    (one,) = samples(target)
    assert getattr(one, own) == target
    for name in {"label", "labels", "value"} - {own}:
        with pytest.raises(TypeError, match=r"its target is (1|\(1,\))"):
            getattr(one, name)


def test_a_score_needs_one_logit():
    assert [num_outputs("classification", 5), num_outputs("multilabel", 5), num_outputs("regression", 0)] == [5, 5, 1]
