"""Find near duplicates: the same image saved again, resized, slightly cropped, brightened or mirrored.

Each image is described by the low frequencies of its thumbnail, whitened over the data set. Its nearest neighbors by
cosine similarity (`megavit.data_check.neighbors`) are registered onto it (`megavit.data_check.registration`). The error
allowed for duplicates is relative to that of an image's other neighbors, as some data sets consist of similar images.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.data.scan import Progress
from megavit.data_check.exact_duplicates import DuplicatePair
from megavit.data_check.neighbors import MAX_EXACT_ROWS, NeighborIndex
from megavit.data_check.registration import registered_similarity
from megavit.data_check.thumbnails import SIDE, Thumbnails

FREQUENCIES = 8
"""Frequencies per side of the discrete cosine transform of a thumbnail."""
NEIGHBORS = 6
"""Number of neighbors of each image that are registered."""
MIN_COSINE = 0.6
"""Minimum cosine similarity of the descriptors of images that are registered."""
MAX_COARSE_ERROR = 0.15
"""Maximum error at half resolution for a registration at full resolution."""
REFERENCE_RANKS = (24, 28, 32)
"""Ranks of an image's neighbors whose lowest error is its typical error; nearer ones may all be duplicates."""
MAX_ERROR_SHARE, MIN_TYPICAL_ERROR = 0.0039, 0.02
"""Maximum squared error of a duplicate as a share of the typical error, and the minimum typical error. Selected on seed
0 of `benchmarks/data/planted_faults.py`; on seeds 1 and 2, it finds 88 of 100 near duplicates in twice 6,000 images of
Fashion-MNIST, and 6 other pairs."""
_ROWS, _BLOCK, _PAIRS = 512, 2**14, 4096


class CandidatePairs(NamedTuple):
    """Pairs of images that may be duplicates.

    Attributes:
        indices: (P, 2) image indices, the smaller one first.
        mirrored: (P,) bool: whether the second image is similar to the mirror image of the first.
    """

    indices: Tensor
    mirrored: Tensor


def find_near_duplicates(
    thumbnails: Thumbnails, distinct: Tensor, progress: Progress | None = None
) -> list[DuplicatePair]:
    """Return pairs of images that are the same except for small changes, but not the same file.

    Args:
        distinct: (N,) bool: images to compare, one of each file content; blank images are ignored.
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
    """Return 1 - similarity of each pair, (P,); large errors are computed at half resolution, which is faster."""
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
    """Return each member's error to similar images that are not duplicates, in [`MIN_TYPICAL_ERROR`, 1].

    It is 1 if there are too few other images. `members` (M,) are image indices, `index` that of `descriptors`.
    """
    typical = torch.ones(len(members))
    if len(gray) <= max(REFERENCE_RANKS) + 1:
        return typical
    for start in range(0, len(members), _ROWS):
        own = members[start : start + _ROWS]
        near = _reference_neighbors(descriptors, own, index if len(members) > MAX_EXACT_ROWS else None)
        pairs = torch.stack([own[:, None].expand_as(near), near], dim=2).flatten(0, 1)
        errors = registration_errors(gray, CandidatePairs(pairs, torch.zeros(len(pairs), dtype=torch.bool)))
        typical[start : start + _ROWS] = errors.view(near.shape).amin(dim=1)
    return typical.clamp(MIN_TYPICAL_ERROR, 1.0)


def _reference_neighbors(descriptors: Tensor, members: Tensor, index: NeighborIndex | None) -> Tensor:
    """Return each member's neighbors of `REFERENCE_RANKS`, (M, ranks); exact if `index` is None."""
    max_rank = max(REFERENCE_RANKS)
    near = torch.empty(len(members), len(REFERENCE_RANKS), dtype=torch.int64)
    rest = torch.ones(len(members), dtype=torch.bool)
    if index is not None:
        found = index.nearest(descriptors[members], max_rank, members)
        # The probed cells may contain too few rows.
        rest = found.query.bincount(minlength=len(members)) < max_rank
        near[~rest] = found.row[~rest[found.query]].view(-1, max_rank)[:, torch.tensor(REFERENCE_RANKS) - 1]
    # The image itself has rank 0.
    nearest = (descriptors[members[rest]] @ descriptors.T).topk(max_rank + 1, dim=1).indices
    near[rest] = nearest[:, list(REFERENCE_RANKS)]
    return near


def compute_descriptors(gray: Tensor) -> Tensor:
    """Return unit descriptors (N, D) of thumbnails (N, SIDE, SIDE): whitened low frequencies without the mean."""
    basis = dct_basis()
    descriptors = torch.empty(len(gray), FREQUENCIES**2 - 1)
    for start in range(0, len(gray), _PAIRS):
        part = gray[start : start + _PAIRS].float()
        descriptors[start : start + _PAIRS] = (basis @ part @ basis.T).flatten(1)[:, 1:]
    # Normalized first, so that images of high contrast do not dominate the scale.
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
    """Return the descriptors of the mirror images: odd horizontal frequencies change sign."""
    horizontal = torch.arange(FREQUENCIES).repeat(FREQUENCIES)[1:]
    return descriptors * (1 - 2 * (horizontal % 2))


def find_candidates(descriptors: Tensor, index: NeighborIndex, progress: Progress | None = None) -> CandidatePairs:
    """Return the nearest neighbors of each image and of its mirror image, with at least `MIN_COSINE`."""
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
