"""Choose replacements for damaged images, so that the order and the batches stay the same."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from typing import TYPE_CHECKING

from megavit.data.targets import TargetValue

if TYPE_CHECKING:
    from megavit.data.dataset import Sample

MAX_CANDIDATES = 16  # number of candidates tried before giving up; with more damage, a person should look


class Replacements:
    """An index of samples, built once, that finds replacements for damaged ones."""

    def __init__(self, samples: Sequence["Sample"]) -> None:
        self._index = {sample.name: index for index, sample in enumerate(samples)}
        # By split, target and shard, in the order of the samples.
        self._groups: dict[str, dict[TargetValue, dict[str, list[int]]]] = {}
        for index, sample in enumerate(samples):
            by_target = self._groups.setdefault(sample.split, {})
            by_target.setdefault(sample.target, defaultdict(list))[_shard(sample)].append(index)

    def candidates(self, sample: "Sample") -> Iterator[int]:
        """Yield the indices of samples that may replace a damaged one, the best first.

        They are from the same split and have the same class, or the nearest labels or number. Other shards take turns
        first, since damage may affect a full shard; within a shard the sample's index decides, to spread replacements.
        The order depends on the samples only, so that every process finds the same replacement without communication.
        """
        yield from islice(self._ranked(sample), MAX_CANDIDATES)

    def _ranked(self, sample: "Sample") -> Iterator[int]:
        by_target = self._groups.get(sample.split, {})
        yield from self._with_target(sample, by_target.get(sample.target, {}))
        if not isinstance(sample.target, int):
            others = (target for target in by_target if target != sample.target)
            for target in nsmallest(MAX_CANDIDATES, others, key=lambda value: _distance(sample.target, value)):
                yield from self._with_target(sample, by_target[target])

    def _with_target(self, sample: "Sample", by_shard: dict[str, list[int]]) -> Iterator[int]:
        own_index, own_shard = self._index.get(sample.name, 0), _shard(sample)
        shards = sorted(by_shard)
        other_shards = [shard for shard in shards if shard > own_shard] + [
            shard for shard in shards if shard < own_shard
        ]
        for turn in range(MAX_CANDIDATES):
            for shard in other_shards:
                if turn < len(by_shard[shard]):
                    yield by_shard[shard][(own_index + turn) % len(by_shard[shard])]
        same_shard = by_shard.get(own_shard, [])
        yield from (index for index in same_shard if index > own_index)
        yield from (index for index in same_shard if index < own_index)


def _shard(sample: "Sample") -> str:
    return "" if sample.location is None else sample.location.file


def _distance(first: TargetValue, second: TargetValue) -> float:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(set(first) ^ set(second))
    assert isinstance(first, float) and isinstance(second, float)
    return abs(first - second)
