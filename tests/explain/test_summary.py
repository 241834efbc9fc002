"""Where a map is highest, in words that hold for every shape of grid."""

from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.explain.summary import _LOCATIONS, TOP_SHARE, MapSummary, summarize_map


@pytest.mark.parametrize("side", [3, 4, 7, 14])
def test_each_ninth_has_its_name(side: int) -> None:
    last, middle = side - 1, side // 2
    names = {
        (0, 0): "the upper left",
        (0, middle): "the top",
        (0, last): "the upper right",
        (middle, 0): "the left",
        (middle, middle): "the center",
        (middle, last): "the right",
        (last, 0): "the lower left",
        (last, middle): "the bottom",
        (last, last): "the lower right",
    }
    for place, name in names.items():
        relevance = torch.zeros(side, side)
        relevance[place] = 1
        found = summarize_map(relevance)
        # In an even grid the ninths overlap, and a patch in two of them may be told by either.
        assert found.location == name or side % 2 == 0, (place, found)
        assert found.top_share == 1 and found.top_patches == ceil(side * side / 10)


@pytest.mark.parametrize(
    ("relevance", "place"),
    [
        ([[0.0, 0, 0, 9]], "the right"),
        ([[0.0], [0], [9]], "the bottom"),
        ([[0.0, 9], [0, 0]], "the upper right"),
        ([[1.0]], "the center"),
        ([[0.0, 0], [0, 0]], "nothing"),
        ([[1.0, 1], [1, 1]], "all of it"),
    ],
)
def test_grids_of_few_rows_or_columns_have_places_too(relevance: list[list[float]], place: str) -> None:
    assert summarize_map(torch.tensor(relevance)).location == place


def test_the_share_is_what_the_highest_tenth_holds() -> None:
    relevance = torch.full((4, 5), 1.0)
    relevance[0, 0], relevance[0, 1] = 21, 11
    assert summarize_map(relevance) == MapSummary("the upper left", 2, 32 / 50)


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 10),
    power=st.integers(1, 9),
)
def test_every_map_has_a_focus_whatever_its_scale(rows: int, columns: int, scale: float, seed: int, power: int) -> None:
    relevance = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) ** power
    found = summarize_map(relevance)
    assert found.location in {*_LOCATIONS.values(), "all of it"}
    assert found.top_patches == ceil(TOP_SHARE * (rows * columns))
    assert found.top_patches / (rows * columns) - 1e-6 <= found.top_share <= 1
    assert summarize_map(relevance * scale).top_share == pytest.approx(found.top_share, rel=1e-4)
