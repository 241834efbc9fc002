"""The checks find good maps good and bad ones bad, by numbers that can be worked out by hand."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.trust.faithfulness import curve_areas, rank_correlation, rank_patches, untrained
from megavit.config.target import Target, TargetKind
from megavit.config.vit import PLAIN_VIT
from megavit.explain.maps import compute_relevance
from tests.helpers.brightness_model import BRIGHT, COLUMNS, ROWS, make_bright_images, make_brightness_model
from tests.helpers.bundles import make_model

pytestmark = pytest.mark.benchmarks

PLACE, COUNT = 5, ROWS * COLUMNS
ZERO = torch.zeros(1)


def first(place: int) -> torch.Tensor:
    """Orders (1, N) of which that patch is the first."""
    return torch.tensor([[place, *(other for other in range(COUNT) if other != place)]])


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_the_area_is_that_of_the_curve_worked_out_by_hand(kind: TargetKind) -> None:
    """The only patch that matters goes at the first step, so that the answer falls there from `whole` to `empty`."""
    model = make_brightness_model("cls", PLAIN_VIT)
    target = Target(kind=kind, mean=3.0, std=2.0)
    place = torch.tensor([0 if kind == "regression" else BRIGHT])
    if kind == "regression":
        head: Any = model.mlp_head
        head.weight.data = head.weight.data.flip(0)
    with torch.no_grad():
        logits = torch.stack([model(make_bright_images(PLACE))[0], model(torch.zeros(1, 1, 6, 8))[0]])
    answer = {"classification": lambda x: x.softmax(1)[:, BRIGHT], "multilabel": lambda x: x.sigmoid()[:, BRIGHT]}
    whole, empty = answer.get(kind, lambda x: 2 * x[:, 0] + 3)(logits).tolist()
    assert whole - empty > 0.1
    good = curve_areas(model, make_bright_images(PLACE), first(PLACE), place, fill=ZERO, target=target)
    assert good.deletion.item() == pytest.approx(empty + (whole - empty) / COUNT / 2, abs=1e-5)
    assert good.insertion.item() == pytest.approx(whole - (whole - empty) / COUNT / 2, abs=1e-5)
    bad = curve_areas(model, make_bright_images(PLACE), first(PLACE).flip(1), place, fill=ZERO, target=target)
    assert bad.deletion.item() == pytest.approx(good.insertion.item(), abs=1e-5)
    assert bad.insertion.item() == pytest.approx(good.deletion.item(), abs=1e-5)


def test_a_patch_that_is_gone_has_the_color_of_the_fill() -> None:
    model = make_brightness_model("mean", PLAIN_VIT)
    bright = curve_areas(
        model, make_bright_images(PLACE), first(PLACE), torch.tensor([BRIGHT]), fill=torch.ones(1), target=Target()
    )
    dark = curve_areas(
        model, make_bright_images(PLACE), first(PLACE), torch.tensor([BRIGHT]), fill=ZERO, target=Target()
    )
    assert bright.deletion > dark.deletion + 0.1


def test_every_image_has_its_own_order_and_answer() -> None:
    model = make_brightness_model("map", PLAIN_VIT)
    x, order = make_bright_images(2, 9, 9), torch.cat([first(2), first(9), first(0)])
    found = curve_areas(model, x, order, torch.tensor([BRIGHT, BRIGHT, 1 - BRIGHT]), fill=ZERO, target=Target())
    alone = curve_areas(model, x[1:2], order[1:2], torch.tensor([BRIGHT]), fill=ZERO, target=Target())
    torch.testing.assert_close(found.deletion[1:2], alone.deletion)
    torch.testing.assert_close(found.insertion[1:2], alone.insertion)
    assert found.deletion[2] != found.deletion[1]


def test_a_map_of_what_the_model_looks_at_beats_every_other_order() -> None:
    model = make_brightness_model("mean", PLAIN_VIT)
    x, places = make_bright_images(3, 7), torch.tensor([BRIGHT, BRIGHT])
    good = curve_areas(model, x, rank_patches(compute_relevance(model, x, places)), places, fill=ZERO, target=Target())
    for seed in range(5):
        random = torch.Generator().manual_seed(seed)
        order = torch.stack([torch.randperm(COUNT, generator=random) for _ in x])
        chance = curve_areas(model, x, order, places, fill=ZERO, target=Target())
        assert (good.deletion <= chance.deletion + 1e-6).all() and (good.insertion >= chance.insertion - 1e-6).all()


def test_the_order_begins_with_the_most_relevant_and_keeps_equals_in_place() -> None:
    maps = torch.tensor([[[0.1, 0.5], [0.3, 0.1]]])
    assert rank_patches(maps).tolist() == [[1, 2, 0, 3]]


def test_a_randomized_model_has_learned_nothing_and_costs_no_randomness() -> None:
    model = make_model().double()
    before = torch.get_rng_state()
    fresh, again, other = untrained(model, 0), untrained(model, 0), untrained(model, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert fresh.config == model.config and not fresh.training
    assert next(fresh.parameters()).dtype == torch.float64
    weights = [one.state_dict()["mlp_head.weight"] for one in (fresh, again, other, model)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[3])


@given(seed=st.integers(0, 1000), rows=st.integers(1, 4), columns=st.integers(2, 4))
def test_rank_correlation_is_one_with_itself_and_minus_one_reversed(seed: int, rows: int, columns: int) -> None:
    random = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, rows, columns, generator=random)
    torch.testing.assert_close(rank_correlation(maps, maps.exp()), torch.ones(3))
    torch.testing.assert_close(rank_correlation(maps, -maps), -torch.ones(3))
    other = rank_correlation(maps, torch.rand(3, rows, columns, generator=random))
    assert (other.abs() <= 1 + 1e-6).all()
    assert rank_correlation(maps, torch.ones_like(maps)).tolist() == [0, 0, 0]
