"""Where a map is highest, in words."""

from dataclasses import dataclass
from math import ceil

from torch import Tensor
from torch.nn import functional as F

# The most relevant tenth of the patches tells how far a map is gathered.
TOP = 0.1
# Holding less than this many times its even share, it is no place.
_GATHERED = 1.5

_PLACES = {
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
_STEPS = {1: (0,), 2: (-1, 1), 3: (-1, 0, 1)}


@dataclass(frozen=True)
class Focus:
    """Where a map is highest.

    Attributes:
        place: the ninth of the image with the highest mean, such as "the upper left" or "the center"; "all of it"
            where the relevance is spread about evenly, "nothing" where there is none.
        top: so many patches, a tenth of all, rounded up, are the most relevant ones;
        share: of the relevance that they hold, in [0, 1].
    """

    place: str
    top: int
    share: float


def focus(relevance: Tensor) -> Focus:
    """Of a map (rows, columns), at least 0."""
    count = relevance.numel()
    top = ceil(TOP * count)
    total = relevance.sum().item()
    if total <= 0:
        return Focus("nothing", top, 0.0)
    share = min(1.0, relevance.flatten().topk(top).values.sum().item() / total)
    if count > 1 and share < _GATHERED * top / count:
        return Focus("all of it", top, share)
    rows, columns = (min(3, side) for side in relevance.shape)
    means = F.adaptive_avg_pool2d(relevance[None].float(), (rows, columns))[0]
    row, column = divmod(int(means.argmax()), columns)
    return Focus(_PLACES[_STEPS[rows][row], _STEPS[columns][column]], top, share)
