"""Every image that fits is seen, whole, with its positions right; what does not fit is refused."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from megavit.config.vit import PLAIN_VIT, Design, Pool, ViTConfig
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit

# The grid, 2 × 3, is no square and neither is its number of patches; the heads are wider than the stream.
CONFIG = ViTConfig(image_size=(8, 12), patch_size=4, num_classes=5, dim=32, depth=2, heads=4, mlp_dim=48, dim_head=12)
DESIGNS = [
    Design(),
    PLAIN_VIT,
    Design(registers=3, layer_scale=0.1, qkv_bias=True),
    Design(positions="rope", mlp="swiglu", registers=2),
    Design(block="serial", positions="sincos", norm="rms", mlp="relu2"),
]
POOL_NAMES: tuple[Pool, ...] = ("cls", "mean", "cls_mean", "map")
EVERY_DESIGN = pytest.mark.parametrize("design", DESIGNS)
EVERY_POOL = pytest.mark.parametrize("pool", POOL_NAMES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(**changes: Any) -> Any:
    """A `MegaVit`; `Any`, as torch types what is inside of modules too loosely."""
    return MegaVit.from_config(replace(CONFIG, **changes))


def images(*sides: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *(sides or (8, 12)))


@pytest.mark.parametrize(("image_size", "patch_size"), [(128, [64, 64]), ((32, 96), (16, 32))])
@torch.no_grad()
def test_patches_may_be_given_by_their_sides(image_size: Any, patch_size: Any) -> None:
    model = make(image_size=image_size, patch_size=patch_size)
    rows, columns = model.config.grid
    features = model.features(images(*model.config.image_hw))
    assert features.grid == (rows, columns)
    assert features.patches.shape == (2, rows * columns, 32)


@pytest.mark.parametrize(("design", "pool"), list(product(DESIGNS, POOL_NAMES)))
@torch.no_grad()
def test_an_all_zero_image_has_an_answer(design: Design, pool: Pool) -> None:
    assert make(design=design, pool=pool)(torch.zeros(1, 3, 8, 12)).isfinite().all()


@EVERY_DESIGN
@torch.no_grad()
def test_an_image_alone_gets_the_answer_it_gets_in_a_batch(design: Design) -> None:
    model = make(design=design).eval()
    x = images(batch=5)
    torch.testing.assert_close(model(x[3:4])[0], model(x)[3], atol=1e-5, rtol=1e-5)


@EVERY_DESIGN
@pytest.mark.parametrize("sides", [(12, 8), (4, 4), (20, 8), (16, 40)])
@torch.no_grad()
def test_an_image_of_another_size_is_seen_whole(design: Design, sides: tuple[int, int]) -> None:
    model = make(design=design).eval()
    x = images(*sides)
    features = model.features(x)
    assert features.grid == (sides[0] // 4, sides[1] // 4)
    assert features.patches.shape[1] == sides[0] * sides[1] // 16
    before = model(x)
    x[:, :, -4:, -4:] += 3.0
    assert not torch.allclose(model(x), before)


@pytest.mark.parametrize("sides", [(12, 8), (4, 8), (20, 12)])
@torch.no_grad()
def test_an_image_of_another_size_gets_the_resampled_positions(sides: tuple[int, int]) -> None:
    """The answer is that of a model made for this size whose table is the resampled one."""
    model = make().eval()
    model.positions.table.normal_()
    other = make(image_size=sides).eval()
    state = model.state_dict()
    state["positions.table"] = model.positions.at(other.config.grid)
    other.load_state_dict(state)
    x = images(*sides)
    torch.testing.assert_close(model(x), other(x))


@torch.no_grad()
def test_swapping_height_and_width_does_not_scramble_the_positions() -> None:
    """A model and its image turned about the diagonal together: the same logits, for a table and its transpose."""
    model, turned = make().eval(), make(image_size=(12, 8)).eval()
    model.positions.table.normal_()
    state = model.state_dict()
    state["positions.table"] = model.positions.table.unflatten(0, (2, 3)).transpose(0, 1).flatten(0, 1)
    kernel = model.patch_embedding.projection.weight.unflatten(1, (3, 4, 4))
    state["patch_embedding.projection.weight"] = kernel.transpose(2, 3).flatten(1)
    turned.load_state_dict(state)
    for sides in ((8, 12), (12, 8), (16, 8)):
        x = images(*sides)
        torch.testing.assert_close(turned(x.transpose(2, 3)), model(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(2, 3, 9, 12), ["height, 9", "4", "8 or 12"]),
        (torch.zeros(2, 3, 8, 13), ["width, 13", "4", "12 or 16"]),
        (torch.zeros(3, 8, 12), ["(batch, channels, height, width)", "(3, 8, 12)"]),
        (torch.zeros(2, 4, 8, 12), ["3 channels", "4"]),
        (torch.zeros(2, 3, 8, 12, dtype=torch.uint8), ["floating point", "uint8"]),
    ],
)
def test_images_that_do_not_fit_are_refused(x: Tensor, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        make()(x)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("channels", [1, 5])
@torch.no_grad()
def test_images_may_have_other_channels(channels: int) -> None:
    model = make(channels=channels)
    assert model(torch.randn(2, channels, 8, 12)).shape == (2, 5)
    with pytest.raises(ValueError, match=f"{channels} channels, got 3"):
        model(images())


def shuffled_patches(x: Tensor, order: Tensor) -> Tensor:
    """The images (B, 3, 8, 12) with their 2 × 3 patches in another order."""
    patches = x.unflatten(3, (3, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)[:, order]
    return patches.unflatten(1, (2, 3)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


@EVERY_POOL
@torch.no_grad()
def test_patches_shuffled_with_their_positions_give_the_shuffled_answer(pool: Pool) -> None:
    model = make(pool=pool).eval()
    model.positions.table.normal_()
    x, order = images(), torch.tensor([3, 1, 4, 0, 5, 2])
    straight = model.features(x)
    moved_images_only = model.features(shuffled_patches(x, order))
    model.positions.table.copy_(model.positions.table[order].clone())
    shuffled = model.features(shuffled_patches(x, order))
    torch.testing.assert_close(shuffled.patches, straight.patches[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shuffled.pooled, straight.pooled, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(moved_images_only.pooled, straight.pooled, atol=1e-3)


@pytest.mark.parametrize("positions", ["sincos", "rope"])
@torch.no_grad()
def test_computed_positions_notice_a_shuffle(positions: Any) -> None:
    model = make(design=Design(positions=positions), pool="mean").eval()
    x, order = images(), torch.tensor([3, 1, 4, 0, 5, 2])
    assert not torch.allclose(model(shuffled_patches(x, order)), model(x), atol=1e-4)


def test_a_config_error_is_what_images_that_do_not_divide_raise() -> None:
    with pytest.raises(ConfigError):
        make()(torch.zeros(1, 3, 8, 13))
