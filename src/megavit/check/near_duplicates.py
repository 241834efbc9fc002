"""Near copies: the same picture saved again, resized, a little cropped, brighter or mirrored.

Each image is described by the low frequencies of its look, every one measured by its usual size in this set, so that
what all pictures of a set share counts little and what marks one counts much. Its nearest neighbors by the cosine of
these (`megavit.check.neighbors`) are then laid over each other (`megavit.check.registration`). How well
two must agree to be copies depends on how well others do: among trousers before a black wall many differ by little.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.check.exact_duplicates import Pair
from megavit.check.neighbors import EXACT, NeighborIndex
from megavit.check.registration import likeness
from megavit.check.thumbnails import SIDE, Looks
from megavit.data.scan import Progress

FREQUENCIES = 8
"""A side, of the discrete cosine transform of a look."""
NEIGHBORS = 6
"""Of each image, that are looked at more closely."""
CLOSE = 0.6
"""The least cosine of two descriptions that is worth a closer look."""
COARSE = 0.15
"""The largest error, at half the size, that is worth a look at the whole."""
OTHERS = (24, 28, 32)
"""Ranks among an image's neighbors: the least error of these is usual for it. Nearer ones may all be copies."""
SHARE, LEAST_USUAL = 0.0039, 0.02
"""A copy's error, squared, is at most this share of the usual one, which counts as `LEAST_USUAL` at least: where
nothing else is near, copies agree to 0.94. Chosen with seed 0 of `benchmarks/planted_faults.py`; with seeds 1 and 2, of
100 near copies in twice 6,000 images of Fashion-MNIST 88 were found, and 6 pairs besides."""
_ROWS = 512
_BLOCK = 2**14
_PAIRS = 4096


class Candidates(NamedTuple):
    """Pairs that may be copies.

    Attributes:
        places: (P, 2), the smaller one first.
        mirrored: (P,) bool: whether the second one is near to the first's mirror image.
    """

    places: Tensor
    mirrored: Tensor


def near_pairs(looks: Looks, first: Tensor, progress: Progress | None = None) -> list[Pair]:
    """Images that are the same picture, though not the same file.

    Args:
        first: (N,) bool: images to compare, one of each file's content; flat ones are left out by themselves.
        progress: told how many images have been compared.
    """
    places = torch.nonzero(first & ~looks.flat).flatten()
    if len(places) < 2:
        return []
    gray = looks.gray[places]
    described = descriptions(gray)
    index = NeighborIndex(described)
    found = candidates(described, index, progress)
    errors = errors_of(gray, found)
    likely = torch.nonzero(errors.square() <= SHARE).flatten()
    usual = torch.ones(len(gray))
    asked = found.places[likely].unique()
    usual[asked] = usual_errors(gray, described, asked, index)
    likely = likely[errors[likely].square() <= SHARE * usual[found.places[likely]].amin(dim=1)]
    best: dict[tuple[int, int], float] = {}
    for place in likely.tolist():
        one, other = places[found.places[place]].tolist()
        best[one, other] = max(best.get((one, other), 0.0), min(1.0, 1 - errors[place].item()))
    return [(one, other, alike) for (one, other), alike in best.items()]


def errors_of(gray: Tensor, pairs: Candidates) -> Tensor:
    """(P,): 1 - likeness; of those that differ at half the size already, as it is there, which is much faster."""
    errors = torch.empty(len(pairs.places))
    for start in range(0, len(errors), _PAIRS):
        part = slice(start, start + _PAIRS)
        one, other = gray[pairs.places[part]].float().unbind(dim=1)
        one = torch.where(pairs.mirrored[part, None, None], one.flip(2), one)
        found = 1 - likeness(F.avg_pool2d(one, 2), F.avg_pool2d(other, 2))
        close = found <= COARSE
        if close.any():
            found[close] = 1 - likeness(one[close], other[close])
        errors[part] = found
    return errors


def usual_errors(gray: Tensor, described: Tensor, asked: Tensor, index: NeighborIndex) -> Tensor:
    """(len(asked),): how little images that are none of its copies differ from each; from `LEAST_USUAL` to 1.

    1 where there are too few others to tell.

    Args:
        gray, described: of all images.
        asked: places of those that it is to be said of.
        index: of `described`.
    """
    usual = torch.ones(len(asked))
    if len(gray) <= max(OTHERS) + 1:
        return usual
    for start in range(0, len(asked), _ROWS):
        own = asked[start : start + _ROWS]
        near = _ranked(described, own, index if len(asked) > EXACT else None)
        pairs = torch.stack([own[:, None].expand_as(near), near], dim=2).flatten(0, 1)
        errors = errors_of(gray, Candidates(pairs, torch.zeros(len(pairs), dtype=torch.bool)))
        usual[start : start + _ROWS] = errors.view(near.shape).amin(dim=1)
    return usual.clamp(LEAST_USUAL, 1.0)


def _ranked(described: Tensor, asked: Tensor, index: NeighborIndex | None) -> Tensor:
    """(len(asked), len(OTHERS)): the neighbors of these ranks, found with `index`; None: exactly."""
    near = torch.empty(len(asked), len(OTHERS), dtype=torch.int64)
    rest = torch.ones(len(asked), dtype=torch.bool)
    if index is not None:
        found = index.nearest(described[asked], max(OTHERS), asked)
        # In the cells that were looked into there may be too few.
        rest = found.query.bincount(minlength=len(asked)) < max(OTHERS)
        ranks = torch.tensor(OTHERS) - 1
        near[~rest] = found.row[~rest[found.query]].view(-1, max(OTHERS))[:, ranks]
    # The image itself has rank 0.
    nearest = (described[asked[rest]] @ described.T).topk(max(OTHERS) + 1, dim=1).indices
    near[rest] = nearest[:, list(OTHERS)]
    return near


def descriptions(gray: Tensor) -> Tensor:
    """(N, D), of length 1: the low frequencies of looks (N, SIDE, SIDE) without the mean, by their usual size."""
    basis = cosines()
    found = torch.empty(len(gray), FREQUENCIES**2 - 1)
    for start in range(0, len(gray), _PAIRS):
        part = gray[start : start + _PAIRS].float()
        found[start : start + _PAIRS] = (basis @ part @ basis.T).flatten(1)[:, 1:]
    # Of each picture the same amount first, or one of much contrast would say what is usual.
    found /= found.norm(dim=1, keepdim=True).clamp_min(1e-6)
    usual = found.square().mean(dim=0).sqrt()
    found /= usual.clamp_min(1e-3 * usual.max())
    return found / found.norm(dim=1, keepdim=True).clamp_min(1e-6)


def cosines() -> Tensor:
    """(FREQUENCIES, SIDE): the first rows of the orthonormal discrete cosine transform (type II)."""
    frequency, place = torch.arange(FREQUENCIES)[:, None], torch.arange(SIDE)[None] + 0.5
    basis = (frequency * place * math.pi / SIDE).cos() * math.sqrt(2 / SIDE)
    basis[0] /= math.sqrt(2)
    return basis


def mirror(described: Tensor) -> Tensor:
    """The descriptions of the mirror images: of these the odd frequencies across have the other sign."""
    across = torch.arange(FREQUENCIES).repeat(FREQUENCIES)[1:]
    return described * (1 - 2 * (across % 2))


def candidates(described: Tensor, index: NeighborIndex, progress: Progress | None = None) -> Candidates:
    """Each image's nearest neighbors, and those nearest to its mirror image, where they are close."""
    count = len(described)
    places: list[Tensor] = []
    mirrored: list[Tensor] = []
    for start in range(0, count, _BLOCK):
        own = torch.arange(start, min(start + _BLOCK, count))
        for turned in (False, True):
            rows = mirror(described[own]) if turned else described[own]
            found = index.nearest(rows, NEIGHBORS, own, CLOSE)
            pair = torch.stack([own[found.query], found.row], dim=1).sort(dim=1).values
            places.append(pair)
            mirrored.append(torch.full((len(pair),), turned))
        if progress is not None:
            progress(int(own[-1]) + 1, count)
    keys = torch.cat([torch.cat(places), torch.cat(mirrored)[:, None].long()], dim=1).unique(dim=0)
    return Candidates(keys[:, :2], keys[:, 2].bool())
