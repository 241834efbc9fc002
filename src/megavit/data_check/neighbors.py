"""Find nearest neighbors by cosine similarity: by brute force for few rows, with an inverted file for many.

An inverted file (Jégou et al. 2011, section 4) assigns the rows to cells around centroids and compares a query with
the rows of the nearest cells only, so that it may miss neighbors in other cells.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from megavit.runtime.seeds import generator

MAX_EXACT_ROWS: int = 8_192
"""Maximum number of rows for brute force."""
CELLS, PROBES = 4.0, 2.0
"""Number of cells as a multiple of sqrt(rows), and of probed cells as a multiple of sqrt(cells). Among 16,000 crops of
photographs this finds 99.9% of the neighbors with a cosine of at least 0.6, with 1/7 of the comparisons; among a
million rows with 1/30 (`benchmarks/data/near_duplicates.py`)."""
_ITERATIONS, _SAMPLE = 6, 64
_QUERIES, _SCORES = 2**14, 2**22


class Neighbors(NamedTuple):
    """The neighbors of queries, sorted by query and then by descending cosine: indices and cosines, (M,) each."""

    query: Tensor
    row: Tensor
    cosine: Tensor


class NeighborIndex:
    """A nearest-neighbor index of rows (N, D) of length 1; `comparisons` counts the cosines computed so far."""

    def __init__(self, rows: Tensor) -> None:
        cells = 1 if len(rows) <= MAX_EXACT_ROWS else round(CELLS * math.sqrt(len(rows)))
        centroids = _centroids(rows, cells)
        self.comparisons = len(rows) * cells if cells > 1 else 0
        cell = _nearest_centroids(rows, centroids, 1)[:, 0]
        self.order = cell.argsort(stable=True)
        self.rows = rows[self.order]
        # Drop empty cells.
        used, sizes = cell.unique(return_counts=True)
        self.centroids, self.ends = centroids[used], sizes.cumsum(0).tolist()
        self.probes = min(len(used), round(PROBES * math.sqrt(cells)))

    def nearest(self, queries: Tensor, k: int, exclude: Tensor, min_cosine: float = -1.0) -> Neighbors:
        """Return up to `k` neighbors of each query (Q, D) except its row `exclude` (Q,), with at least `min_cosine`."""
        parts: list[Neighbors] = []
        for start in range(0, len(queries), _QUERIES):
            block = slice(start, start + _QUERIES)
            query, row, cosine = self._search(queries[block], k + 1, min_cosine)
            others = row != exclude[block][query]
            query, row, cosine = query[others], row[others], cosine[others]
            best = cosine.argsort(descending=True, stable=True)
            best = best[query[best].argsort(stable=True)]
            query = query[best]
            first = torch.cat([torch.zeros(1, dtype=torch.int64), query.bincount(minlength=1).cumsum(0)])
            kept = torch.arange(len(query)) - first[query] < k
            parts.append(Neighbors(query[kept] + start, row[best][kept], cosine[best][kept]))
        return Neighbors(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _search(self, queries: Tensor, k: int, min_cosine: float) -> Neighbors:
        """Return `k` neighbors of each query from each probed cell, unsorted."""
        found: list[Neighbors] = []
        probed = _nearest_centroids(queries, self.centroids, self.probes)
        if len(self.ends) > 1:
            self.comparisons += probed.shape[0] * len(self.ends)
        by_cell = probed.flatten().argsort(stable=True)
        queries_by_cell = (by_cell // self.probes).split(probed.flatten().bincount(minlength=len(self.ends)).tolist())
        for cell, (own, end) in enumerate(zip(queries_by_cell, self.ends, strict=True)):
            begin = self.ends[cell - 1] if cell else 0
            rows = self.rows[begin:end]
            for chunk in own.split(max(1, _SCORES // len(rows))):
                cosines = queries[chunk] @ rows.T
                self.comparisons += cosines.numel()
                # Most queries have no neighbor in the cell, which is faster to check than topk.
                near = torch.nonzero(cosines.amax(dim=1) >= min_cosine).flatten()
                values, columns = cosines[near].topk(min(k, len(rows)), dim=1)
                query, rank = torch.nonzero(values >= min_cosine, as_tuple=True)
                found.append(
                    Neighbors(chunk[near[query]], self.order[begin + columns[query, rank]], values[query, rank])
                )
        return Neighbors(*(torch.cat(part) for part in zip(*found, strict=True)))


def _centroids(rows: Tensor, cells: int) -> Tensor:
    """Return the k-means centroids of a sample of the rows, (cells, D) of length 1."""
    random = generator(0)
    sample = rows[torch.randperm(len(rows), generator=random)[: cells * _SAMPLE]]
    centroids = sample[:cells].clone()
    for _ in range(_ITERATIONS if cells > 1 else 0):
        cell = _nearest_centroids(sample, centroids, 1)[:, 0]
        sums = torch.zeros_like(centroids).index_add_(0, cell, sample)
        lengths = sums.norm(dim=1, keepdim=True)
        centroids = torch.where(lengths > 0, sums / lengths.clamp_min(1e-12), centroids)
    return centroids


def _nearest_centroids(rows: Tensor, centroids: Tensor, k: int) -> Tensor:
    """Return the indices of the `k` centroids nearest to each row, (N, k)."""
    if len(centroids) == 1:
        return torch.zeros(len(rows), 1, dtype=torch.int64)
    parts = rows.split(max(1, _SCORES // len(centroids)))
    return torch.cat([(part @ centroids.T).topk(k, dim=1).indices for part in parts])
