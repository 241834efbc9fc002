"""Near copies: the same picture saved again, resized, a little cropped, brighter or mirrored.

Each image is described by the low frequencies of its look, every one measured by its usual size in this set, so that
what all pictures of a set share counts little and what marks one counts much. Its nearest neighbours by the cosine of
these, found by products of matrices, block by block, are then laid over each other (`megavit.check.align`), and only
those that agree pixel by pixel are copies.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from megavit.check.align import likeness
from megavit.check.copies import Pair
from megavit.check.looks import SIDE, Looks
from megavit.data.scan import Progress

FREQUENCIES = 12
"""A side, of the discrete cosine transform of a look."""
NEIGHBOURS = 4
"""Of each image, that are looked at more closely."""
CLOSE = 0.5
"""The least cosine of two descriptions that is worth a closer look."""
ALIKE = 0.9
"""The least likeness of copies."""
_ROWS = 512
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
    grey = looks.grey[places]
    found = candidates(descriptions(grey), progress)
    pairs: list[Pair] = []
    for start in range(0, len(found.places), _PAIRS):
        chosen, mirrored = found.places[start : start + _PAIRS], found.mirrored[start : start + _PAIRS]
        one, other = grey[chosen[:, 0]].float(), grey[chosen[:, 1]].float()
        one = torch.where(mirrored[:, None, None], one.flip(2), one)
        alike = likeness(one, other)
        for place in torch.nonzero(alike >= ALIKE).flatten().tolist():
            a, b = places[chosen[place]].tolist()
            pairs.append((a, b, alike[place].item()))
    return pairs


def descriptions(grey: Tensor) -> Tensor:
    """(N, D), of length 1: the low frequencies of looks (N, SIDE, SIDE) without the mean, by their usual size."""
    basis = cosines()
    found = torch.empty(len(grey), FREQUENCIES**2 - 1)
    for start in range(0, len(grey), _PAIRS):
        part = grey[start : start + _PAIRS].float()
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


def candidates(described: Tensor, progress: Progress | None = None) -> Candidates:
    """Each image's nearest neighbours, and those nearest to its mirror image, where they are close."""
    count = len(described)
    neighbours = min(NEIGHBOURS, count - 1)
    places: list[Tensor] = []
    mirrored: list[Tensor] = []
    for start in range(0, count, _ROWS):
        own = torch.arange(start, min(start + _ROWS, count))
        for turned in (False, True):
            rows = mirror(described[own]) if turned else described[own]
            cosine = rows @ described.T
            cosine[torch.arange(len(own)), own] = -1.0
            values, near = cosine.topk(neighbours, dim=1)
            row, rank = torch.nonzero(values >= CLOSE, as_tuple=True)
            pair = torch.stack([own[row], near[row, rank]], dim=1).sort(dim=1).values
            places.append(pair)
            mirrored.append(torch.full((len(pair),), turned))
        if progress is not None:
            progress(min(start + _ROWS, count), count)
    keys = torch.cat([torch.cat(places), torch.cat(mirrored)[:, None].long()], dim=1).unique(dim=0)
    return Candidates(keys[:, :2], keys[:, 2].bool())
