"""What 8-bit integers stand for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The smallest and largest value of a product's input."""

    low: float
    high: float

    def __or__(self, other: "Range") -> "Range":
        """The range of both."""
        return Range(min(self.low, other.low), max(self.high, other.high))
