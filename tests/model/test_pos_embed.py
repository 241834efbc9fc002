"""Positions are right on every grid: resampled where learned, by their formula where computed."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from megavit.config.vit import Design, ViTConfig
from megavit.model.pos_embed import (
    GridRotaryPositions,
    LearnedPositions,
    LearnedRotaryPositions,
    RotaryPositions,
    Rotation,
    SincosPositions,
    rotate,
)

CONFIG = ViTConfig(image_size=(8, 12), patch_size=1, num_classes=5, dim=16, depth=1, heads=2, mlp_dim=24, dim_head=8)
GRIDS = [(8, 12), (12, 8), (16, 24), (5, 7), (20, 6), (1, 12), (8, 1), (1, 1)]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def learned(values: Tensor) -> LearnedPositions:
    """With the table of `values` (rows, columns, D)."""
    rows, columns, dim = values.shape
    positions = LearnedPositions(replace(CONFIG, image_size=(rows, columns), dim=dim))
    with torch.no_grad():
        positions.table.copy_(values.flatten(0, 1))
    return positions


def waves(grid: tuple[int, int]) -> Tensor:
    """Half a wave and a whole one over each axis, at the patches' centers: (rows, columns, 4)."""
    y, x = ((torch.arange(side) + 0.5) / side * math.pi for side in grid)
    along_y = torch.stack([y.cos(), (2 * y).cos()]).T[:, None, :, None]
    along_x = torch.stack([x.cos(), (2 * x).cos()]).T[None, :, None, :]
    return (along_y * along_x).flatten(2)


def test_on_its_own_grid_the_table_is_taken_as_it_is() -> None:
    positions = learned(torch.randn(8, 12, 16))
    assert positions.table.shape == (96, 16)
    assert positions.at((8, 12)) is positions.table


@pytest.mark.parametrize("grid", GRIDS[1:5])
def test_a_smooth_table_stays_what_it_was_on_any_grid(grid: tuple[int, int]) -> None:
    positions = learned(waves((8, 12)))
    torch.testing.assert_close(positions.at(grid), waves(grid).flatten(0, 1), atol=0.15, rtol=0)


@pytest.mark.parametrize("grid", GRIDS)
def test_resampling_an_oblong_table_and_its_transpose_gives_transposes(grid: tuple[int, int]) -> None:
    values = torch.randn(8, 12, 16)
    straight = learned(values).at(grid).unflatten(0, grid)
    turned = learned(values.transpose(0, 1)).at((grid[1], grid[0])).unflatten(0, (grid[1], grid[0]))
    torch.testing.assert_close(straight, turned.transpose(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [2, 3, 20])
def test_one_column_is_resampled_as_one_row_is(rows: int) -> None:
    """PyTorch 2.15 gets an antialiased (rows, 1) wrong for a contiguous (1, D, rows, columns) on a CPU."""
    values = torch.randn(8, 12, 16)
    turned = learned(values.transpose(0, 1)).at((1, rows))
    torch.testing.assert_close(learned(values).at((rows, 1)), turned, atol=1e-5, rtol=1e-5)


def test_an_image_with_its_sides_swapped_does_not_read_the_table_in_the_wrong_order() -> None:
    """There are as many patches, so nothing would fail."""
    positions = learned(waves((8, 12)))
    assert (positions.at((12, 8)) - positions.table).abs().max() > 0.5


@pytest.mark.parametrize("grid", GRIDS)
def test_a_constant_table_stays_constant(grid: tuple[int, int]) -> None:
    values = torch.randn(16).expand(8, 12, 16)
    positions = learned(values)
    torch.testing.assert_close(positions.at(grid), values[0, :1].expand(grid[0] * grid[1], 16), atol=1e-5, rtol=1e-5)


def test_shrinking_is_antialiased() -> None:
    """Every third value of a checkerboard is a checkerboard again; its local mean is nearly 0."""
    board = (torch.arange(9)[:, None] + torch.arange(9)) % 2 * 2.0 - 1
    assert learned(board[:, :, None].expand(9, 9, 4)).at((3, 3)).abs().max() < 0.2


def test_a_resampled_table_still_learns() -> None:
    positions = learned(torch.randn(8, 12, 16))
    positions.at((5, 7)).square().sum().backward()
    assert positions.table.grad is not None
    assert (positions.table.grad.abs().sum(dim=1) > 0).all()


def test_resampling_keeps_the_dtype() -> None:
    positions = learned(torch.randn(8, 12, 16)).to(torch.bfloat16)
    resampled = positions.at((5, 7))
    assert resampled.dtype == torch.bfloat16
    assert resampled.shape == (35, 16)


@pytest.mark.parametrize("grid", GRIDS)
def test_learned_positions_are_added(grid: tuple[int, int]) -> None:
    positions = learned(torch.randn(8, 12, 16))
    tokens = torch.randn(2, grid[0] * grid[1], 16)
    moved, rotation = positions(tokens, grid)
    assert rotation is None
    torch.testing.assert_close(moved - tokens, positions.at(grid).expand_as(tokens), atol=1e-5, rtol=1e-5)


def sincos() -> SincosPositions:
    return SincosPositions(replace(CONFIG, design=Design(positions="sincos")))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1), (1, 0), (2, 4), (4, 2)])
def test_sincos_is_its_formula(row: int, column: int) -> None:
    """A quarter of the channels each for sin(x), cos(x), sin(y), cos(y), at frequencies from 1 to 1 / 10,000."""
    frequencies = [10_000 ** (-i / 3) for i in range(4)]
    expected = [wave(place * f) for place in (column, row) for wave in (math.sin, math.cos) for f in frequencies]
    at = sincos().at((5, 6), CPU)
    assert at.shape == (30, 16)
    assert at[row * 6 + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_sincos_gives_every_patch_of_a_grid_its_own_place() -> None:
    at = sincos().at((5, 7), CPU)
    distance = torch.cdist(at, at) + 10 * torch.eye(35)
    assert distance.min() > 0.1


def test_sincos_is_added_in_the_dtype_of_the_tokens() -> None:
    tokens = torch.zeros(2, 12, 16, dtype=torch.bfloat16)
    moved, rotation = sincos()(tokens, (3, 4))
    assert rotation is None
    assert moved.dtype == torch.bfloat16
    assert torch.equal(moved[1], sincos().at((3, 4), CPU).to(torch.bfloat16))


def rope() -> RotaryPositions:
    return RotaryPositions(replace(CONFIG, design=Design(positions="rope")))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (4, 0), (2, 2)])
def test_rotary_angles_are_their_formula(row: int, column: int) -> None:
    """Half of the angles by y, half by x, coordinates in (-1, 1), periods from 1 up to base; then all again."""
    y, x = (row + 0.5) / 5 * 2 - 1, (column + 0.5) / 4 * 2 - 1
    angles = [2 * math.pi * place / 100 ** (i / 2) for place in (y, x) for i in range(2)] * 2
    rotation = rope().at((5, 4), CPU)
    assert rotation.cos.shape == rotation.sin.shape == (20, 8)
    assert rotation.cos[row * 4 + column].tolist() == pytest.approx([math.cos(a) for a in angles], abs=1e-5)
    assert rotation.sin[row * 4 + column].tolist() == pytest.approx([math.sin(a) for a in angles], abs=1e-5)


def test_rotated_dot_products_depend_on_the_difference_of_places_only() -> None:
    rows, columns = 4, 5
    rotation = rope().at((rows, columns), CPU)
    query, key = (rotate(torch.randn(8).expand(1, 1, 20, 8), rotation)[0, 0] for _ in range(2))
    logits = (query @ key.T).unflatten(1, (rows, columns)).unflatten(0, (rows, columns))
    by_difference: dict[tuple[int, int], list[float]] = {}
    for r1, c1 in torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).tolist():
        for r2, c2 in torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).tolist():
            by_difference.setdefault((r2 - r1, c2 - c1), []).append(logits[r1, c1, r2, c2].item())
    assert len(by_difference) == 7 * 9
    assert max(max(values) - min(values) for values in by_difference.values()) < 1e-4
    assert max(values[0] for values in by_difference.values()) - min(v[0] for v in by_difference.values()) > 0.5


def test_rotating_keeps_lengths_and_prefix_tokens() -> None:
    x = torch.randn(2, 3, 4 + 20, 8)
    rotation = rope().at((4, 5), CPU)
    turned = rotate(x, rotation)
    assert torch.equal(turned[:, :, :4], x[:, :, :4])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert (turned[:, :, 4:] - x[:, :, 4:]).abs().amax(dim=-1).min() > 0.01


def test_each_image_may_have_its_own_rotation() -> None:
    x = torch.randn(2, 3, 1 + 6, 8)
    rotation = rope().at((4, 5), CPU)
    chosen = torch.stack([torch.randperm(20)[:6] for _ in range(2)])
    both = rotate(x, Rotation(rotation.cos[chosen][:, None], rotation.sin[chosen][:, None]))
    for image in range(2):
        alone = rotate(x[image : image + 1], Rotation(rotation.cos[chosen[image]], rotation.sin[chosen[image]]))
        torch.testing.assert_close(both[image], alone[0])


def test_the_same_place_in_a_finer_image_has_the_same_angles() -> None:
    coarse, fine = rope().at((2, 2), CPU).sin, rope().at((6, 6), CPU).sin.unflatten(0, (6, 6))
    torch.testing.assert_close(coarse.unflatten(0, (2, 2)), fine[1::3, 1::3], atol=1e-5, rtol=1e-5)


def test_rotating_keeps_the_dtype() -> None:
    assert rotate(torch.randn(2, 3, 7, 8).bfloat16(), rope().at((2, 3), CPU)).dtype == torch.bfloat16


@pytest.mark.parametrize("grid", [(8, 12), (3, 5)])
def test_learned_rotary_positions_add_a_table_and_turn_by_places_in_a_grid_of_16(grid: tuple[int, int]) -> None:
    positions = LearnedRotaryPositions(replace(CONFIG, design=Design(positions="learned_rope")))
    torch.nn.init.normal_(positions.learned.table)
    rows, columns = grid
    x = torch.randn(2, rows * columns, 16)
    tokens, rotation = positions(x, grid)
    torch.testing.assert_close(tokens, x + positions.learned.at(grid))
    assert rotation is not None
    for row, column in [(0, 0), (rows - 1, 2), (1, columns - 1)]:
        places = (16 * row / rows, 16 * column / columns)
        angles = [place / 10_000 ** (i / 2) for place in places for i in range(2)] * 2
        assert rotation.cos[row * columns + column].tolist() == pytest.approx([math.cos(a) for a in angles], abs=1e-5)
        assert rotation.sin[row * columns + column].tolist() == pytest.approx([math.sin(a) for a in angles], abs=1e-5)


def angles_at(places: tuple[float, float], columns_first: bool = False) -> list[float]:
    ordered = places[::-1] if columns_first else places
    return [place / 10_000 ** (i / 2) for place in ordered for i in range(2)] * 2


@pytest.mark.parametrize("grid", [(2, 3), (4, 9), (1, 1)])
def test_native_rotary_positions_count_the_patches_of_the_models_own_grid_from_one(grid: tuple[int, int]) -> None:
    positions = LearnedRotaryPositions(replace(CONFIG, design=Design(positions="learned_rope_native")))
    rows, columns = grid
    rotation = positions.at(grid, CPU)
    for row, column in [(0, 0), (rows - 1, columns - 1)]:
        places = ((row + 1) / rows * CONFIG.grid[0], (column + 1) / columns * CONFIG.grid[1])
        angles = angles_at(places, columns_first=True)
        assert rotation.cos[row * columns + column].tolist() == pytest.approx([math.cos(a) for a in angles], abs=1e-5)
        assert rotation.sin[row * columns + column].tolist() == pytest.approx([math.sin(a) for a in angles], abs=1e-5)


def test_rotary_positions_of_a_grid_are_those_that_learned_ones_turn_by() -> None:
    alone = GridRotaryPositions(replace(CONFIG, design=Design(positions="rope_grid")))
    both = LearnedRotaryPositions(replace(CONFIG, design=Design(positions="learned_rope")))
    x = torch.randn(1, 15, 16)
    tokens, rotation = alone(x, (3, 5))
    assert torch.equal(tokens, x) and list(alone.parameters()) == []
    assert torch.equal(rotation.sin, both.at((3, 5), CPU).sin)
