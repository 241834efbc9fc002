"""Who takes the place of a damaged image."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from megavit.data.stand_in import MOST, stand_ins


@dataclass(frozen=True)
class One:
    name: str
    target: int | tuple[int, ...] | float
    split: str = "train"


def ones(*targets, splits="train"):
    return [One(str(place), target, splits) for place, target in enumerate(targets)]


def test_the_next_of_the_class_comes_first_and_after_the_last_the_first():
    samples = ones(0, 1, 0, 1, 0, 0)
    assert list(stand_ins(samples[2], samples)) == [4, 5, 0]
    assert list(stand_ins(samples[3], samples)) == [1]


def test_only_those_of_the_split_come():
    samples = [One("a", 0), One("b", 0, "test"), One("c", 0)]
    assert list(stand_ins(samples[0], samples)) == [2]
    assert list(stand_ins(samples[1], samples)) == []


def test_labels_that_differ_least_and_scores_that_are_nearest_come_first():
    samples = ones((0, 1), (2,), (0,), (0, 1), ())
    assert list(stand_ins(samples[0], samples)) == [3, 2, 4, 1]
    samples = ones(1.0, 5.0, 1.5, 0.9, -3.0)
    assert list(stand_ins(samples[0], samples)) == [3, 2, 1, 4]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.data())
def test_it_is_never_itself_never_of_another_class_and_never_many(targets, data):
    samples = ones(*targets)
    place = data.draw(st.integers(0, len(samples) - 1))
    found = list(stand_ins(samples[place], samples))
    assert place not in found and len(set(found)) == len(found) <= MOST
    assert {targets[other] for other in found} <= {targets[place]}
    assert len(found) == min(MOST, targets.count(targets[place]) - 1)
