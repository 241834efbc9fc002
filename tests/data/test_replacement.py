"""Who takes the place of a damaged image."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from megavit.data.byte_range import ByteRange
from megavit.data.replacement import MAX_CANDIDATES, Replacements


@dataclass(frozen=True)
class One:
    name: str
    target: int | tuple[int, ...] | float
    split: str = "train"
    location: ByteRange | None = field(default=None)


def ones(*targets):
    return [One(str(place), target) for place, target in enumerate(targets)]


def in_shards(*shards):
    """Images of one class, by the number of their shard."""
    return [One(str(place), 0, location=ByteRange(f"{shard}.tar", 0, 1, "")) for place, shard in enumerate(shards)]


def of(sample, samples):
    return list(Replacements(samples).candidates(sample))


def test_in_one_shard_the_next_of_the_class_comes_first_and_after_the_last_the_first():
    samples = ones(0, 1, 0, 1, 0, 0)
    assert of(samples[2], samples) == [4, 5, 0]
    assert of(samples[3], samples) == [1]


def test_only_those_of_the_split_come():
    samples = [One("a", 0), One("b", 0, "test"), One("c", 0)]
    assert of(samples[0], samples) == [2]
    assert of(samples[1], samples) == []


def test_labels_that_differ_least_and_scores_that_are_nearest_come_first():
    samples = ones((0, 1), (2,), (0,), (0, 1), ())
    assert of(samples[0], samples) == [3, 2, 4, 1]
    samples = ones(1.0, 5.0, 1.5, 0.9, -3.0)
    assert of(samples[0], samples) == [3, 2, 1, 4]


def test_other_shards_come_first_and_each_in_its_turn():
    samples = in_shards(0, 0, 0, 1, 1, 1, 2, 2, 2)
    found = of(samples[4], samples)
    assert [place // 3 for place in found] == [2, 0, 2, 0, 2, 0, 1, 1]
    assert len(set(found)) == 8


def test_a_shard_that_is_gone_is_stood_for_by_many_different_images():
    samples = in_shards(*([0] * 100), *([1] * 100), *([2] * 100))
    assert len({of(sample, samples)[0] for sample in samples[100:200]}) == 100


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=60), st.data())
def test_it_is_never_itself_never_of_another_class_and_never_many(drawn, data):
    samples = [
        One(str(place), target, location=ByteRange(f"{shard}.tar", 0, 1, ""))
        for place, (target, shard) in enumerate(drawn)
    ]
    place = data.draw(st.integers(0, len(samples) - 1))
    found = of(samples[place], samples)
    alike = [target for target, _ in drawn].count(drawn[place][0])
    assert place not in found and len(set(found)) == len(found) == min(MAX_CANDIDATES, alike - 1)
    assert {drawn[other][0] for other in found} <= {drawn[place][0]}
