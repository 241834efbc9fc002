import math

import pytest
import torch
from torch import Tensor

from megavit.config.pretraining import PretrainingRecipe
from megavit.training.pretraining.objective import LeJepa
from megavit.training.pretraining.sigreg import distance_from_normal, effective_rank


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_statistic_is_the_integral_of_epps_and_pulley() -> None:
    values = draw(7).double()
    t = torch.linspace(-3, 3, 20_001, dtype=torch.float64)
    characteristic = torch.exp(1j * values[:, None] * t).mean(dim=0)
    weight = (-t.square() / 2).exp()
    expected = 7 * torch.trapezoid((characteristic - weight).abs().square() * weight, t)
    # In one dimension all directions are the same, but for their signs.
    found = distance_from_normal(values[:, None].float(), 3)
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)


def test_it_tells_normal_embeddings_from_others() -> None:
    torch.manual_seed(0)
    normal = draw(512, 16)
    plain = distance_from_normal(normal, 64).item()
    assert 0.5 < plain < 2
    assert distance_from_normal(normal * 2, 64).item() > 20 * plain
    assert distance_from_normal(normal * torch.tensor([1.0] * 8 + [0.0] * 8), 64).item() > 3 * plain
    zero = distance_from_normal(torch.zeros(512, 16), 4).item()
    whole = math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))
    assert zero == pytest.approx(512 * whole, rel=0.02)


def test_each_view_is_compared_by_itself() -> None:
    views = torch.stack([draw(64, 4), 3 * draw(64, 4, seed=1)])
    torch.manual_seed(0)
    both = distance_from_normal(views, 500)
    torch.manual_seed(0)
    parts = []
    for view in views:
        torch.manual_seed(0)
        parts.append(distance_from_normal(view, 500))
    torch.testing.assert_close(both, torch.stack(parts).mean())


def test_the_loss_draws_views_to_the_mean_of_the_large_ones() -> None:
    projected = draw(5, 32, 6)
    recipe = PretrainingRecipe(large_views=2, small_views=3, regularization=0.25, directions=20)
    torch.manual_seed(0)
    found = LeJepa(recipe, is_labeled=False).loss(projected)
    torch.manual_seed(0)
    center = (projected[0] + projected[1]) / 2
    expected = 0.75 * (projected - center).square().mean() + 0.25 * distance_from_normal(projected, 20)
    torch.testing.assert_close(found, expected)


def test_the_effective_rank_counts_directions() -> None:
    assert effective_rank(draw(400, 8)) == pytest.approx(8, abs=0.1)
    line = draw(100, 1) * torch.ones(8)
    assert effective_rank(line) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.ones(100, 8)) == 0
    plane = torch.cat([draw(4000, 2), torch.zeros(4000, 6)], dim=1) + 5
    assert effective_rank(plane) == pytest.approx(2, abs=0.05)
