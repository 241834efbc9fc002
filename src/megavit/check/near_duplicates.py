"""Near duplicates: the same image saved again, resized, slightly cropped, brightened or mirrored.

Each image is described by the low frequencies of its thumbnail, whitened over the data set, so that what all images
share counts little and what marks one counts much. Its nearest neighbors by the cosine of these
(`megavit.check.neighbors`) are then registered onto it (`megavit.check.registration`). How well two must agree to be
duplicates depends on how well others do: trousers before a black wall differ by little.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.check.exact_duplicates import DuplicatePair
from megavit.check.neighbors import EXACT, NeighborIndex
from megavit.check.registration import registered_similarity
from megavit.check.thumbnails import SIDE, Thumbnails
from megavit.data.scan import Progress

FREQUENCIES = 8
"""Per side, of the discrete cosine transform of a thumbnail."""
NEIGHBORS = 6
"""Of each image, that are registered."""
MIN_COSINE = 0.6
"""The least cosine of two descriptors whose images are registered."""
MAX_COARSE_ERROR = 0.15
"""The largest error at half the resolution, above which the full one is not tried."""
REFERENCE_RANKS = (24, 28, 32)
"""Ranks among an image's neighbors, of which the least error is typical for it; nearer ones may all be duplicates."""
MAX_ERROR_SHARE, MIN_TYPICAL_ERROR = 0.0039, 0.02
"""A duplicate's squared error is at most this share of the typical error, which counts as at least the second: where
nothing else is near, duplicates agree to 0.94. Selected with seed 0 of `benchmarks/planted_faults.py`; with seeds 1 and
2, of 100 near duplicates in twice 6,000 images of Fashion-MNIST 88 were found, and 6 other pairs."""
_ROWS, _BLOCK, _PAIRS = 512, 2**14, 4096


class CandidatePairs(NamedTuple):
    """Pairs that may be duplicates.

    Attributes:
        indices: (P, 2), the smaller one first.
        mirrored: (P,) bool: whether the second one is near to the mirror image of the first.
    """

    indices: Tensor
    mirrored: Tensor


def find_near_duplicates(
    thumbnails: Thumbnails, distinct: Tensor, progress: Progress | None = None
) -> list[DuplicatePair]:
    """Return pairs of images that are the same but for small changes, though not the same file.

    Args:
        distinct: (N,) bool: images to compare, one of each file content; blank ones are left out anyway.
        progress: called with the number of images compared.
    """
    indices = torch.nonzero(distinct & ~thumbnails.blank).flatten()
    if len(indices) < 2:
        return []
    gray = thumbnails.gray[indices]
    descriptors = compute_descriptors(gray)
    index = NeighborIndex(descriptors)
    candidates = find_candidates(descriptors, index, progress)
    errors = registration_errors(gray, candidates)
    likely = torch.nonzero(errors.square() <= MAX_ERROR_SHARE).flatten()
    typical = torch.ones(len(gray))
    members = candidates.indices[likely].unique()
    typical[members] = typical_errors(gray, descriptors, members, index)
    likely = likely[errors[likely].square() <= MAX_ERROR_SHARE * typical[candidates.indices[likely]].amin(dim=1)]
    best: dict[tuple[int, int], float] = {}
    for i in likely.tolist():
        first, second = indices[candidates.indices[i]].tolist()
        best[first, second] = max(best.get((first, second), 0.0), min(1.0, 1 - errors[i].item()))
    return [DuplicatePair(*pair, similarity) for pair, similarity in best.items()]


def registration_errors(gray: Tensor, pairs: CandidatePairs) -> Tensor:
    """Return 1 - similarity of each pair, (P,); at half the resolution, which is faster, where it is large there."""
    errors = torch.empty(len(pairs.indices))
    for start in range(0, len(errors), _PAIRS):
        part = slice(start, start + _PAIRS)
        first, second = gray[pairs.indices[part]].float().unbind(dim=1)
        first = torch.where(pairs.mirrored[part, None, None], first.flip(2), first)
        error = 1 - registered_similarity(F.avg_pool2d(first, 2), F.avg_pool2d(second, 2))
        close = error <= MAX_COARSE_ERROR
        if close.any():
            error[close] = 1 - registered_similarity(first[close], second[close])
        errors[part] = error
    return errors


def typical_errors(gray: Tensor, descriptors: Tensor, members: Tensor, index: NeighborIndex) -> Tensor:
    """Return the error of each member to similar images that are no duplicates, from `MIN_TYPICAL_ERROR` to 1.

    It is 1 where there are too few others to tell.

    Args:
        gray, descriptors: of all images.
        members: (M,) indices of the images in question.
        index: of `descriptors`.
    """
    typical = torch.ones(len(members))
    if len(gray) <= max(REFERENCE_RANKS) + 1:
        return typical
    for start in range(0, len(members), _ROWS):
        own = members[start : start + _ROWS]
        near = _reference_neighbors(descriptors, own, index if len(members) > EXACT else None)
        pairs = torch.stack([own[:, None].expand_as(near), near], dim=2).flatten(0, 1)
        errors = registration_errors(gray, CandidatePairs(pairs, torch.zeros(len(pairs), dtype=torch.bool)))
        typical[start : start + _ROWS] = errors.view(near.shape).amin(dim=1)
    return typical.clamp(MIN_TYPICAL_ERROR, 1.0)


def _reference_neighbors(descriptors: Tensor, members: Tensor, index: NeighborIndex | None) -> Tensor:
    """Return each member's neighbors of `REFERENCE_RANKS`, (M, ranks), found with `index`; None: exactly."""
    most = max(REFERENCE_RANKS)
    near = torch.empty(len(members), len(REFERENCE_RANKS), dtype=torch.int64)
    rest = torch.ones(len(members), dtype=torch.bool)
    if index is not None:
        found = index.nearest(descriptors[members], most, members)
        # In the cells that were probed there may be too few.
        rest = found.query.bincount(minlength=len(members)) < most
        near[~rest] = found.row[~rest[found.query]].view(-1, most)[:, torch.tensor(REFERENCE_RANKS) - 1]
    # The image itself has rank 0.
    nearest = (descriptors[members[rest]] @ descriptors.T).topk(most + 1, dim=1).indices
    near[rest] = nearest[:, list(REFERENCE_RANKS)]
    return near


def compute_descriptors(gray: Tensor) -> Tensor:
    """Return unit descriptors (N, D) of thumbnails (N, SIDE, SIDE): their low frequencies but the mean, whitened."""
    basis = dct_basis()
    descriptors = torch.empty(len(gray), FREQUENCIES**2 - 1)
    for start in range(0, len(gray), _PAIRS):
        part = gray[start : start + _PAIRS].float()
        descriptors[start : start + _PAIRS] = (basis @ part @ basis.T).flatten(1)[:, 1:]
    # To unit length first, or one image of high contrast would dominate the scale.
    descriptors /= descriptors.norm(dim=1, keepdim=True).clamp_min(1e-6)
    scale = descriptors.square().mean(dim=0).sqrt()
    descriptors /= scale.clamp_min(1e-3 * scale.max())
    return descriptors / descriptors.norm(dim=1, keepdim=True).clamp_min(1e-6)


def dct_basis() -> Tensor:
    """Return the first rows of the orthonormal discrete cosine transform (type II), (FREQUENCIES, SIDE)."""
    frequency, position = torch.arange(FREQUENCIES)[:, None], torch.arange(SIDE)[None] + 0.5
    basis = (frequency * position * math.pi / SIDE).cos() * math.sqrt(2 / SIDE)
    basis[0] /= math.sqrt(2)
    return basis


def mirror_descriptors(descriptors: Tensor) -> Tensor:
    """Return the descriptors of the mirror images, whose odd horizontal frequencies have the other sign."""
    horizontal = torch.arange(FREQUENCIES).repeat(FREQUENCIES)[1:]
    return descriptors * (1 - 2 * (horizontal % 2))


def find_candidates(descriptors: Tensor, index: NeighborIndex, progress: Progress | None = None) -> CandidatePairs:
    """Return each image's nearest neighbors, and those nearest to its mirror image, above `MIN_COSINE`."""
    count = len(descriptors)
    rows: list[Tensor] = []
    for start in range(0, count, _BLOCK):
        own = torch.arange(start, min(start + _BLOCK, count))
        for mirrored, queries in enumerate((descriptors[own], mirror_descriptors(descriptors[own]))):
            found = index.nearest(queries, NEIGHBORS, own, MIN_COSINE)
            pairs = torch.stack([own[found.query], found.row], dim=1).sort(dim=1).values
            rows.append(F.pad(pairs, (0, 1), value=mirrored))
        if progress is not None:
            progress(int(own[-1]) + 1, count)
    unique = torch.cat(rows).unique(dim=0)
    return CandidatePairs(unique[:, :2], unique[:, 2].bool())
