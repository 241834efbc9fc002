import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.evaluation.metrics.significance import (
    SIGNIFICANCE_LEVEL,
    bootstrap_accuracy_difference,
    mcnemar_test,
    paired_bootstrap_test,
)


def answers(gained: int, lost: int, both: int) -> tuple[torch.Tensor, torch.Tensor]:
    before = [False] * gained + [True] * lost + [True] * both
    after = [True] * gained + [False] * lost + [True] * both
    return torch.tensor(before, dtype=torch.bool), torch.tensor(after, dtype=torch.bool)


@pytest.mark.parametrize(
    ("gained", "lost", "expected"), [(5, 0, 1 / 32), (4, 0, 1 / 16), (0, 5, 1.0), (9, 1, 11 / 1024)]
)
def test_only_images_that_one_alone_has_right_count(gained, lost, expected):
    for both in (0, 100):
        assert mcnemar_test(*answers(gained, lost, both)) == pytest.approx(expected)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 5))
def test_a_gain_never_convinces_less_for_one_more_image_gained(gained, lost, both):
    assert mcnemar_test(*answers(gained + 1, lost, both)) <= mcnemar_test(*answers(gained, lost, both)) <= 1
    if gained <= lost:
        assert mcnemar_test(*answers(gained, lost, both)) >= 0.5


def test_no_difference_is_no_gain():
    right = torch.tensor([True, False, True])
    assert mcnemar_test(right, right) == 1
    assert paired_bootstrap_test(3, lambda places: 0.0) == 1


def test_the_bootstrap_sees_a_steady_gain_and_not_a_wavering_one():
    random = torch.Generator().manual_seed(0)
    wavering = torch.randn(50, generator=random)
    wavering -= wavering.mean()
    assert paired_bootstrap_test(50, lambda places: (wavering + 1)[places].mean().item()) < 0.01
    assert paired_bootstrap_test(50, lambda places: wavering[places].mean().item()) > SIGNIFICANCE_LEVEL


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 5))
def test_two_sided_the_chance_is_the_same_whichever_of_the_two_comes_first(gained, lost, both):
    before, after = answers(gained, lost, both)
    chance = mcnemar_test(before, after, "two-sided")
    assert chance == pytest.approx(mcnemar_test(after, before, "two-sided"))
    assert chance >= min(mcnemar_test(before, after), mcnemar_test(after, before)) - 1e-12


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_change_is_the_difference_of_the_shares_and_its_interval_holds_it(pairs: list[tuple[bool, bool]]) -> None:
    before, after = torch.tensor(pairs).unbind(dim=1)
    change = bootstrap_accuracy_difference(before, after)
    expected = after.double().mean() - before.double().mean()
    assert abs(change.value - expected) < 1e-9
    assert -1 <= change.low <= change.value <= change.high <= 1
    if torch.equal(before, after):
        assert change.low == change.high == 0


def test_images_that_change_back_and_forth_widen_the_interval() -> None:
    before = torch.tensor([True, False] * 50)
    few, many = before.clone(), before.clone()
    few[:2], many[:40] = ~few[:2], ~many[:40]
    narrow, wide = bootstrap_accuracy_difference(before, few), bootstrap_accuracy_difference(before, many)
    assert narrow.value == wide.value == 0
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
