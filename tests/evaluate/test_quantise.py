import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.evaluate.quantise import paired_change


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_change_is_the_difference_of_the_shares_and_its_interval_holds_it(pairs: list[tuple[bool, bool]]) -> None:
    before, after = torch.tensor(pairs).unbind(dim=1)
    change = paired_change(before, after)
    expected = after.double().mean() - before.double().mean()
    assert abs(change.value - expected) < 1e-9
    assert -1 <= change.low <= change.value <= change.high <= 1
    if torch.equal(before, after):
        assert change.low == change.high == 0


def test_images_that_change_back_and_forth_widen_the_interval() -> None:
    before = torch.tensor([True, False] * 50)
    few, many = before.clone(), before.clone()
    few[:2], many[:40] = ~few[:2], ~many[:40]
    narrow, wide = paired_change(before, few), paired_change(before, many)
    assert narrow.value == wide.value == 0
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
