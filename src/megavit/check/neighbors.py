"""Nearest neighbors among many directions: by comparing all of some thousands, by an inverted file beyond.

An inverted file (as in Jégou et al. 2011, section 4) sorts the rows into cells around centroids and compares a query
with the rows of the few cells that are nearest to it. What it finds is exact but for neighbors in other cells.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from megavit.runtime.seeds import generator

EXACT: int = 8_192
"""Rows up to which each is compared with all, which takes about as long as making an index of them."""
CELLS, PROBES = 4.0, 2.0
"""Cells, and those of them that a query looks into, each times a square root: of the rows, and of the cells. Among
16,000 crops of photographs that finds 99.9% of the neighbors with a cosine of 0.6 and more, for a seventh of the
comparisons; of a million rows it takes one in thirty (`benchmarks/near_copies.py`)."""
_ITERATIONS, _SAMPLE = 6, 64
_QUERIES, _SCORES = 2**14, 2**22


class Neighbors(NamedTuple):
    """What queries found, the queries in their order, and of each the nearest first.

    Attributes:
        query: (M,) which of the queries.
        row: (M,) what it found.
        cosine: (M,) of the two.
    """

    query: Tensor
    row: Tensor
    cosine: Tensor


class NeighborIndex:
    """An index of rows (N, D) of length 1.

    Attributes:
        compared: pairs of a query and a row, or a centroid, whose cosine was computed so far.
    """

    def __init__(self, rows: Tensor) -> None:
        cells = 1 if len(rows) <= EXACT else round(CELLS * math.sqrt(len(rows)))
        centroids = _centroids(rows, cells)
        self.compared = len(rows) * cells if cells > 1 else 0
        cell = _nearest_centroids(rows, centroids, 1)[:, 0]
        self.order = cell.argsort(stable=True)
        self.rows = rows[self.order]
        # Cells without a row would only be looked into in vain.
        used, sizes = cell.unique(return_counts=True)
        self.centroids, self.ends = centroids[used], sizes.cumsum(0).tolist()
        self.probes = min(len(used), round(PROBES * math.sqrt(cells)))

    def nearest(self, queries: Tensor, most: int, own: Tensor, at_least: float = -1.0) -> Neighbors:
        """Return up to `most` neighbors of each query (Q, D), leaving out the row (Q,) that is its own.

        Args:
            at_least: the cosine of a neighbor.
        """
        parts: list[Neighbors] = []
        for start in range(0, len(queries), _QUERIES):
            block = slice(start, start + _QUERIES)
            query, row, cosine = self._search(queries[block], most + 1, at_least)
            others = row != own[block][query]
            query, row, cosine = query[others], row[others], cosine[others]
            best = cosine.argsort(descending=True, stable=True)
            best = best[query[best].argsort(stable=True)]
            query = query[best]
            first = torch.cat([torch.zeros(1, dtype=torch.int64), query.bincount(minlength=1).cumsum(0)])
            kept = torch.arange(len(query)) - first[query] < most
            parts.append(Neighbors(query[kept] + start, row[best][kept], cosine[best][kept]))
        return Neighbors(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _search(self, queries: Tensor, most: int, at_least: float) -> Neighbors:
        """Return `most` of each query and cell that it looks into, in no order."""
        found: list[Neighbors] = []
        probed = _nearest_centroids(queries, self.centroids, self.probes)
        if len(self.ends) > 1:
            self.compared += probed.shape[0] * len(self.ends)
        by_cell = probed.flatten().argsort(stable=True)
        asking = (by_cell // self.probes).split(probed.flatten().bincount(minlength=len(self.ends)).tolist())
        for cell, (own, end) in enumerate(zip(asking, self.ends, strict=True)):
            begin = self.ends[cell - 1] if cell else 0
            rows = self.rows[begin:end]
            for some in own.split(max(1, _SCORES // len(rows))):
                cosines = queries[some] @ rows.T
                self.compared += cosines.numel()
                # Most queries have nothing here: to see that is much faster than to look for their nearest.
                near = torch.nonzero(cosines.amax(dim=1) >= at_least).flatten()
                values, places = cosines[near].topk(min(most, len(rows)), dim=1)
                query, rank = torch.nonzero(values >= at_least, as_tuple=True)
                found.append(Neighbors(some[near[query]], self.order[begin + places[query, rank]], values[query, rank]))
        return Neighbors(*(torch.cat(part) for part in zip(*found, strict=True)))


def _centroids(rows: Tensor, cells: int) -> Tensor:
    """Return (cells, D): the centers that k-means finds among some of the rows, of length 1."""
    random = generator(0)
    sample = rows[torch.randperm(len(rows), generator=random)[: cells * _SAMPLE]]
    centroids = sample[:cells].clone()
    for _ in range(_ITERATIONS if cells > 1 else 0):
        cell = _nearest_centroids(sample, centroids, 1)[:, 0]
        sums = torch.zeros_like(centroids).index_add_(0, cell, sample)
        lengths = sums.norm(dim=1, keepdim=True)
        centroids = torch.where(lengths > 0, sums / lengths.clamp_min(1e-12), centroids)
    return centroids


def _nearest_centroids(rows: Tensor, centroids: Tensor, most: int) -> Tensor:
    """Return (N, most): the numbers of the centroids that are nearest to each row."""
    if len(centroids) == 1:
        return torch.zeros(len(rows), 1, dtype=torch.int64)
    parts = rows.split(max(1, _SCORES // len(centroids)))
    return torch.cat([(part @ centroids.T).topk(most, dim=1).indices for part in parts])
