"""What takes the place of an image whose bytes are damaged, so that order and batches stay what they are."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from typing import Protocol

MAX_CANDIDATES = 16
"""Images that are tried; where so many of a kind are damaged, a person should look."""

Target = int | tuple[int, ...] | float


class Where(Protocol):
    @property
    def file(self) -> str: ...


class Placed(Protocol):
    """What is asked of a `megavit.data.dataset.Sample`."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> int | tuple[int, ...] | float: ...
    @property
    def split(self) -> str: ...
    @property
    def location(self) -> Where | None: ...


class Replacements:
    """Who may stand for each of some samples; made once, as a shard that is gone asks for thousands."""

    def __init__(self, samples: Sequence[Placed]) -> None:
        self._place = {sample.name: place for place, sample in enumerate(samples)}
        # By split, then by target, then by shard, each in the order of the samples.
        self._kinds: dict[str, dict[Target, dict[str, list[int]]]] = {}
        for place, sample in enumerate(samples):
            kinds = self._kinds.setdefault(sample.split, {})
            kinds.setdefault(sample.target, defaultdict(list))[_shard(sample)].append(place)

    def candidates(self, sample: Placed) -> Iterator[int]:
        """The places of those that may stand for `sample`, the first choice first.

        They are of its split and have its class; of labels those that differ in the fewest; of scores the nearest.
        Those of other shards come first, one of each in turn, as a damaged shard may be damaged as a whole; and which
        one of a shard goes by the sample's own place, so that not all that is lost has one stand-in. Whoever finds the
        damage thus knows the stand-in without asking anyone, whatever the world size, and the targets need not change.
        """
        yield from islice(self._all(sample), MAX_CANDIDATES)

    def _all(self, sample: Placed) -> Iterator[int]:
        kinds = self._kinds.get(sample.split, {})
        yield from self._of_kind(sample, kinds.get(sample.target, {}))
        if not isinstance(sample.target, int):
            others = (target for target in kinds if target != sample.target)
            for target in nsmallest(MAX_CANDIDATES, others, key=lambda other: _distance(sample.target, other)):
                yield from self._of_kind(sample, kinds[target])

    def _of_kind(self, sample: Placed, by_shard: dict[str, list[int]]) -> Iterator[int]:
        here, own = self._place.get(sample.name, 0), _shard(sample)
        shards = sorted(by_shard)
        after = [shard for shard in shards if shard > own] + [shard for shard in shards if shard < own]
        for turn in range(MAX_CANDIDATES):
            for shard in after:
                if turn < len(by_shard[shard]):
                    yield by_shard[shard][(here + turn) % len(by_shard[shard])]
        mine = by_shard.get(own, [])
        yield from (place for place in mine if place > here)
        yield from (place for place in mine if place < here)


def _shard(sample: Placed) -> str:
    return "" if sample.location is None else sample.location.file


def _distance(one: Target, other: Target) -> float:
    """How far two sets of labels, or two scores, are from each other."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(set(one) ^ set(other))
    assert isinstance(one, float) and isinstance(other, float)
    return abs(one - other)
