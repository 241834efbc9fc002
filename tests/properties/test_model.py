"""What holds for every model and every batch, not only for the ones that somebody thought of."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.vit import ZETA, Design, Pool, ViTConfig, pair
from megavit.model.vit import MegaVit

designs = st.builds(
    Design,
    block=st.sampled_from(["parallel", "serial"]),
    qk_norm=st.booleans(),
    qkv_bias=st.booleans(),
    norm=st.sampled_from(["layer", "rms"]),
    norm_bias=st.booleans(),
    norm_eps=st.sampled_from([1e-6, 1e-5]),
    pre_norm=st.booleans(),
    patch_norm=st.booleans(),
    final_norm=st.sampled_from(["tokens", "pooled"]),
    mlp=st.sampled_from(["gelu", "gelu_tanh", "quick_gelu", "swiglu", "relu2"]),
    attention_out_norm=st.booleans(),
    mlp_out_norm=st.booleans(),
    positions=st.sampled_from(["learned", "sincos", "rope", "learned_rope", "learned_rope_native", "rope_grid"]),
    prefix_positions=st.sampled_from(["none", "class", "all"]),
    pool_heads=st.sampled_from([None, 1, 4]),
    pool_prefix=st.booleans(),
    registers=st.integers(0, 3),
    layer_scale=st.none() | st.floats(1e-5, 1),
    drop_path=st.sampled_from([0.0, 0.5]),
    patch_drop=st.sampled_from([0.0, 0.5]),
) | st.just(ZETA)


@st.composite
def configs(draw: st.DrawFn) -> ViTConfig:
    patch_height, patch_width = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    rows, columns = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    heads, design = draw(st.integers(1, 3)), draw(designs)
    both: list[Pool] = ["cls_mean"] if design.final_norm == "tokens" else []
    return ViTConfig(
        image_size=(rows * patch_height, columns * patch_width),
        patch_size=(patch_height, patch_width),
        num_classes=draw(st.integers(0, 4)),
        dim=4 * heads * draw(st.integers(1, 3)),
        depth=draw(st.integers(1, 3)),
        heads=heads,
        mlp_dim=draw(st.integers(1, 20)),
        pool=draw(st.sampled_from(["cls", "mean", "map", *both])),
        channels=draw(st.integers(1, 4)),
        dim_head=4 * draw(st.integers(1, 3)),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        emb_dropout=draw(st.sampled_from([0.0, 0.5])),
        design=design,
    )


def images(config: ViTConfig, batch: int, grid: tuple[int, int], seed: int = 0) -> torch.Tensor:
    (rows, columns), (patch_height, patch_width) = grid, config.patch_hw
    sides = (rows * patch_height, columns * patch_width)
    return torch.randn(batch, config.channels, *sides, generator=torch.Generator().manual_seed(seed))


@given(config=configs(), batch=st.integers(1, 4), training=st.booleans())
def test_every_model_answers_every_batch_with_finite_numbers(config: ViTConfig, batch: int, training: bool) -> None:
    model = MegaVit.from_config(config).train(training)
    x = images(config, batch, config.grid)
    answer = model(x)
    assert answer.shape == (batch, config.num_classes or config.pooled_dim)
    assert answer.isfinite().all()
    features = model.eval().features(x)
    rows, columns = features.grid
    assert features.grid == config.grid
    assert features.prefix.shape == (batch, config.num_prefix_tokens, config.dim)
    assert features.patches.shape == (batch, rows * columns, config.dim)


@given(config=configs(), batch=st.integers(2, 4), data=st.data())
@torch.no_grad()
def test_an_image_alone_gets_the_answer_it_gets_in_a_batch(config: ViTConfig, batch: int, data: st.DataObject) -> None:
    """In float64, so that only a true dependence shows, not the rounding that a narrow norm magnifies."""
    model = MegaVit.from_config(config).eval().double()
    x = images(config, batch, config.grid).double()
    i = data.draw(st.integers(0, batch - 1))
    torch.testing.assert_close(model(x[i : i + 1])[0], model(x)[i], atol=1e-8, rtol=1e-8)


@given(config=configs(), grid=st.tuples(st.integers(1, 6), st.integers(1, 6)))
@torch.no_grad()
def test_every_image_that_the_patches_tile_is_seen(config: ViTConfig, grid: tuple[int, int]) -> None:
    features = MegaVit.from_config(config).eval().features(images(config, 1, grid))
    assert features.grid == grid
    assert features.patches.shape[1] == grid[0] * grid[1]
    assert features.pooled.isfinite().all()


@given(config=configs(), excess=st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_every_image_that_they_do_not_tile_is_refused_with_both_numbers(
    config: ViTConfig, excess: tuple[int, int]
) -> None:
    (height, width), (patch_height, patch_width) = config.image_hw, config.patch_hw
    sides = (height + excess[0] % patch_height, width + excess[1] % patch_width)
    model = MegaVit.from_config(config)
    if sides == config.image_hw:
        assert model.patch_embedding.grid(torch.zeros(1, config.channels, *sides)) == config.grid
        return
    with pytest.raises(ValueError) as caught:
        model(torch.zeros(1, config.channels, *sides))
    side, patch = (sides[0], patch_height) if sides[0] % patch_height else (sides[1], patch_width)
    below, above = side // patch * patch, side // patch * patch + patch
    for number in (side, patch, below, above):
        assert str(number) in str(caught.value)
    with pytest.raises(ValueError):
        replace(config, image_size=sides)


@given(config=configs())
def test_every_model_is_rebuilt_from_its_config(config: ViTConfig) -> None:
    with torch.device("meta"):
        model = MegaVit.from_config(config)
        again = MegaVit.from_config(model.config)
    assert again.config == config
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in again.state_dict().items()
    }


@given(config=configs())
def test_every_model_learns_with_all_of_its_parameters(config: ViTConfig) -> None:
    model = MegaVit.from_config(config).eval()
    model(images(config, 4, config.grid)).square().sum().backward()
    missing = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@given(side=st.integers(1, 10**6))
def test_one_number_is_a_square(side: int) -> None:
    assert pair("image_size", side) == pair("image_size", (side, side)) == (side, side)
