"""Describe where a relevance map is highest."""

from dataclasses import dataclass
from math import ceil

from torch import Tensor
from torch.nn import functional as F

TOP_SHARE = 0.1  # share of the patches, the most relevant ones, that measures how concentrated a map is
# A map has a location if these patches have at least this multiple of their share of uniform relevance.
_MIN_CONCENTRATION = 1.5

_LOCATIONS = {
    (-1, -1): "the upper left",
    (-1, 0): "the top",
    (-1, 1): "the upper right",
    (0, -1): "the left",
    (0, 0): "the center",
    (0, 1): "the right",
    (1, -1): "the lower left",
    (1, 0): "the bottom",
    (1, 1): "the lower right",
}
_OFFSETS = {1: (0,), 2: (-1, 1), 3: (-1, 0, 1)}


@dataclass(frozen=True)
class MapSummary:
    """A description of where a relevance map is highest.

    Attributes:
        location: the ninth of the image with the highest mean, such as "the upper left" or "the center"; "all of it"
            for nearly uniform relevance, "nothing" for none.
        top_patches: number of the most relevant patches, a tenth of all, rounded up.
        top_share: share of the relevance in these patches, in [0, 1].
    """

    location: str
    top_patches: int
    top_share: float


def summarize_map(relevance: Tensor) -> MapSummary:
    """Return the summary of a map (rows, columns) of values of at least 0."""
    count = relevance.numel()
    top = ceil(TOP_SHARE * count)
    total = relevance.sum().item()
    if total <= 0:
        return MapSummary("nothing", top, 0.0)
    share = min(1.0, relevance.flatten().topk(top).values.sum().item() / total)
    if count > 1 and share < _MIN_CONCENTRATION * top / count:
        return MapSummary("all of it", top, share)
    rows, columns = (min(3, side) for side in relevance.shape)
    means = F.adaptive_avg_pool2d(relevance[None].float(), (rows, columns))[0]
    row, column = divmod(int(means.argmax()), columns)
    return MapSummary(_LOCATIONS[_OFFSETS[rows][row], _OFFSETS[columns][column]], top, share)
