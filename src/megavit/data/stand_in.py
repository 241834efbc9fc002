"""What takes the place of an image whose bytes are damaged, so that order and batches stay what they are."""

from collections.abc import Iterator, Sequence
from heapq import nsmallest
from typing import Protocol

MOST = 16
"""Images that are tried; where so many of a kind are damaged, a person should look."""


class Placed(Protocol):
    """What is asked of a `megavit.data.samples.Sample`."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> int | tuple[int, ...] | float: ...
    @property
    def split(self) -> str: ...


def stand_ins(sample: Placed, samples: Sequence[Placed]) -> Iterator[int]:
    """The places of those that may stand for `sample`, the first choice first.

    They are of its split and have its class; of labels those that differ in the fewest; of scores the nearest. Among
    equals the next one in the order of `samples` comes first, the first after the last. So whoever finds the damage
    knows the stand-in without asking anyone, whatever the world size, and the targets need not change.
    """
    count = len(samples)
    here = next((place for place, other in enumerate(samples) if other.name == sample.name), 0)
    ranked = (
        (_distance(sample.target, other.target), (place - here) % count, place)
        for place, other in enumerate(samples)
        if place != here and other.split == sample.split
    )
    near = nsmallest(MOST, (rank for rank in ranked if rank[0] is not None))
    yield from (place for _, _, place in near)


def _distance(one: int | tuple[int, ...] | float, other: int | tuple[int, ...] | float) -> float | None:
    """How far two targets of a kind are from each other; None where one cannot stand for the other."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(set(one) ^ set(other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    return 0 if one == other else None
