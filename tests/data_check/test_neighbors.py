"""The nearest neighbors are those that scikit-learn finds by comparing all, and beyond some thousands nearly all."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from megavit.data_check import near_duplicates, neighbors
from megavit.data_check.near_duplicates import find_near_duplicates
from megavit.data_check.neighbors import NeighborIndex
from megavit.data_check.thumbnails import Thumbnails
from tests.helpers.labeled_images import make_scene

CLOSE = 0.6


def directions(count: int, seed: int = 0, around: int = 60) -> Tensor:
    """Rows of length 1 that lie around some centers, as pictures of some scenes do."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.randn(around, 63, generator=random)
    rows = centers[torch.randint(around, (count,), generator=random)] + 0.7 * torch.randn(count, 63, generator=random)
    return rows / rows.norm(dim=1, keepdim=True)


def found_by(index: NeighborIndex, rows: Tensor, asked: Tensor, most: int) -> dict[tuple[int, int], float]:
    found = index.nearest(rows[asked], most, asked, CLOSE)
    assert (found.query.diff() >= 0).all() and found.query.bincount().max() <= most
    pairs = zip(asked[found.query].tolist(), found.row.tolist(), strict=True)
    return dict(zip(pairs, found.cosine.tolist(), strict=True))


def found_by_sklearn(rows: Tensor, asked: Tensor, most: int) -> dict[tuple[int, int], float]:
    exact = NearestNeighbors(n_neighbors=most + 1, algorithm="brute", metric="cosine").fit(rows.numpy())
    distances, places = exact.kneighbors(rows[asked].numpy())
    return {
        (query, int(row)): 1 - float(distance)
        for query, some, near in zip(asked.tolist(), places, distances, strict=True)
        for row, distance in zip(some, near, strict=True)
        if row != query and 1 - distance >= CLOSE
    }


def test_of_few_rows_the_neighbors_are_exact():
    rows, asked = directions(900), torch.arange(900)
    found, truth = found_by(NeighborIndex(rows), rows, asked, 6), found_by_sklearn(rows, asked, 6)
    assert len(truth) > 1000 and set(found) == set(truth)
    assert all(found[pair] == pytest.approx(cosine, abs=1e-5) for pair, cosine in truth.items())


def test_of_many_rows_nearly_all_are_found_for_a_fraction_of_the_comparisons():
    rows, asked = directions(neighbors.MAX_EXACT_ROWS + 1, around=300), torch.arange(0, neighbors.MAX_EXACT_ROWS, 10)
    index = NeighborIndex(rows)
    before = index.comparisons
    found, truth = found_by(index, rows, asked, 6), found_by_sklearn(rows, asked, 6)
    assert len(set(found) & set(truth)) >= 0.99 * len(truth) > 1000
    assert index.comparisons - before < len(rows) * len(asked) / 5


def test_comparisons_grow_slower_than_the_square(monkeypatch):
    monkeypatch.setattr(neighbors, "MAX_EXACT_ROWS", 100)
    compared = []
    for count in (500, 8000):
        rows = directions(count, around=count // 10)
        index = NeighborIndex(rows)
        index.nearest(rows, 6, torch.arange(count), CLOSE)
        compared.append(index.comparisons)
    assert compared[1] / compared[0] < 16**1.8


def test_rows_that_are_all_the_same_have_neighbors_too(monkeypatch):
    monkeypatch.setattr(neighbors, "MAX_EXACT_ROWS", 10)
    rows = directions(1).expand(400, 63)
    found = NeighborIndex(rows).nearest(rows, 6, torch.arange(400), CLOSE)
    assert len(found.query) == 400 * 6 and (found.query != found.row).all()


@pytest.mark.parametrize("exact", [0, 10**6])
def test_copies_are_the_same_with_an_index_and_without(monkeypatch, exact):
    scenes = torch.stack([make_scene(seed, side=32, channels=1)[0] for seed in range(300)])
    darker = (scenes[:40].float() * 0.85).to(torch.uint8)
    thumbnails = Thumbnails(torch.cat([scenes, darker, scenes[40:60].flip(2)]), torch.zeros(360, dtype=torch.bool))
    expected = {(place, 300 + place) for place in range(60)}
    monkeypatch.setattr(neighbors, "MAX_EXACT_ROWS", exact)
    monkeypatch.setattr(near_duplicates, "MAX_EXACT_ROWS", exact)
    assert {pair[:2] for pair in find_near_duplicates(thumbnails, torch.ones(360, dtype=torch.bool))} == expected
