"""Images of different sizes in one sequence get the answers that they get one at a time."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import varlen

from megavit.config.vit import Design, ViTConfig
from megavit.model import attention as module
from megavit.model.attention import attend, attend_packed, can_use_varlen
from megavit.model.layers import DropPath
from megavit.model.packing import Packing, pack
from megavit.model.vit import MegaVit
from tests.properties.test_model import configs

CONFIG = ViTConfig(
    image_size=(8, 12), patch_size=4, num_classes=5, dim=32, depth=2, heads=2, mlp_dim=48, dim_head=16, pool="cls"
)


def shaken(config: ViTConfig) -> MegaVit:
    """A model whose every parameter is away from its initial value, so that each one shows."""
    torch.manual_seed(0)
    model = MegaVit.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def pictures(config: ViTConfig, grids: list[tuple[int, int]], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    height, width = config.patch_hw
    return [
        torch.randn(config.channels, rows * height, columns * width, generator=random).to(dtype)
        for rows, columns in grids
    ]


def packing_of(*groups: tuple[int, int]) -> Packing:
    lengths = torch.tensor([0] + [length for count, length in groups for _ in range(count)])
    return Packing(groups, lengths.cumsum(0).int())


grids = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=6)


@given(config=configs(), grids=grids)
def test_packed_images_get_the_answers_and_gradients_they_get_alone(
    config: ViTConfig, grids: list[tuple[int, int]]
) -> None:
    """In float64, so that only a true dependence shows, not the rounding that a narrow norm magnifies."""
    model = shaken(config).double()
    images = pictures(config, grids, torch.float64)
    alone = torch.cat([model(image[None]) for image in images])
    packed = model(images)
    torch.testing.assert_close(packed, alone, atol=1e-9, rtol=1e-9)
    weights = torch.randn_like(alone)
    parameters = list(model.parameters())
    expected = torch.autograd.grad((alone * weights).sum(), parameters)
    found = torch.autograd.grad((packed * weights).sum(), parameters)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("positions", ["learned", "sincos", "rope"])
@pytest.mark.parametrize("pool", ["cls", "mean", "cls_mean", "map"])
@pytest.mark.parametrize("block", ["parallel", "serial"])
@torch.no_grad()
def test_in_float32_they_agree_to_a_hundred_thousandth(positions: Any, pool: Any, block: Any) -> None:
    config = replace(CONFIG, pool=pool, design=Design(positions=positions, block=block, registers=2, stem="conv"))
    model = MegaVit.from_config(config).eval()
    images = pictures(config, [(2, 3), (14, 14), (3, 2), (1, 7), (2, 3), (10, 19), (1, 1)])
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_features_are_those_of_each_image_in_the_order_given() -> None:
    model = shaken(replace(CONFIG, design=Design(registers=1, positions="rope")))
    grids = [(3, 2), (1, 1), (2, 3), (1, 6), (3, 2)]
    images = pictures(CONFIG, grids)
    packed = model.features_packed(images)
    assert list(packed.grids) == grids
    for place, image in enumerate(images):
        alone = model.features(image[None])
        torch.testing.assert_close(packed.pooled[place], alone.pooled[0])
        torch.testing.assert_close(packed.prefix[place], alone.prefix[0])
        torch.testing.assert_close(packed.patches[place], alone.patches[0])


@torch.no_grad()
def test_an_image_does_not_see_its_neighbors() -> None:
    model = shaken(CONFIG)
    images = pictures(CONFIG, [(2, 2), (2, 2), (1, 3)])
    before = model(images)
    after = model([images[0], 5 - images[1], 5 - images[2]])
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1:], after[1:])


@torch.no_grad()
def test_one_size_packed_is_the_plain_batch() -> None:
    model = shaken(CONFIG)
    images = pictures(CONFIG, [(2, 3)] * 4)
    torch.testing.assert_close(model(images), model(torch.stack(images)))
    assert torch.equal(model(tuple(images)), model(images))


def test_bfloat16_under_autocast_agrees_as_far_as_it_can() -> None:
    model = shaken(CONFIG)
    images = pictures(CONFIG, [(2, 3), (3, 2), (4, 4)])
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        packed, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(packed, alone, atol=0.05, rtol=0.05)


def test_drop_path_drops_whole_images_and_each_by_itself() -> None:
    torch.manual_seed(0)
    packing = packing_of((40, 2), (30, 5))
    dropped = DropPath(0.5).train()(torch.ones(1, 40 * 2 + 30 * 5, 3), packing)
    seen = set()
    for group in packing.split(dropped):
        for image in group:
            assert (image == image[0, 0]).all()
            seen.add(image[0, 0].item())
    assert seen == {0.0, 2.0}


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_patch_drop_keeps_its_share_of_each_image(positions: Any) -> None:
    design = Design(positions=positions, patch_drop=0.5, drop_path=0.3, registers=2)
    model = MegaVit.from_config(replace(CONFIG, dropout=0.2, emb_dropout=0.2, design=design)).train()
    features = model.features_packed(pictures(CONFIG, [(4, 4), (1, 1), (2, 5), (5, 2)]))
    assert [len(patches) for patches in features.patches] == [8, 1, 5, 5]
    assert features.pooled.isfinite().all()
    features.pooled.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.startswith("mlp_head"))


def test_patches_that_are_left_keep_their_own_rotations() -> None:
    """With every parameter in its place, a model that leaves out nothing but order answers the same."""
    config = replace(CONFIG, pool="mean", design=Design(positions="rope", registers=1))
    model = shaken(config).double()
    images = pictures(config, [(3, 3), (2, 4)], torch.float64)
    whole = model(images)
    model.patch_drop.train()
    model.patch_drop.rate = 1e-9  # all are kept, in an order drawn for each image
    torch.testing.assert_close(model(images), whole, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one image"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 8, 10)], r"image 1 of 2: .*width, 10, must be divisible .* 8 or 12"),
        ([torch.zeros(1, 8, 8)], "image 0 of 1: .*3 channels, got 1"),
        ([torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8)], r"image 1 of 2: .*\(channels, height, width\)"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)], "image 1 of 2: .*floating point"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.float64)], "image 1 of 2 is torch.float64.*the same"),
    ],
)
def test_an_image_that_does_not_fit_is_named(images: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MegaVit.from_config(CONFIG)(images)


def test_packing_splits_and_joins_without_loss() -> None:
    packing = packing_of((2, 3), (1, 4))
    x = torch.randn(1, 10, 2)
    parts = packing.split(x)
    assert [part.shape for part in parts] == [(2, 3, 2), (1, 4, 2)]
    assert torch.equal(packing.join(parts), x)
    assert packing.num_images == 3 and packing.max_tokens == 4
    assert packing.repeat(torch.tensor([1, 2, 3]).view(3, 1, 1)).flatten().tolist() == [1] * 3 + [2] * 3 + [3] * 4


def test_stacks_of_one_length_become_one_group() -> None:
    x, rotation, packing = pack(
        [(torch.zeros(2, 3, 4), None), (torch.ones(1, 3, 4), None), (torch.ones(1, 5, 4), None)]
    )
    assert packing.groups == ((3, 3), (1, 5)) and rotation is None
    assert packing.starts.tolist() == [0, 3, 6, 9, 14] and packing.starts.dtype == torch.int32
    assert x.shape == (1, 14, 4) and x.sum() == 8 * 4


def test_what_the_kernel_of_all_lengths_is_given_and_gives_is_in_its_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with its documented layout, (T, H, K), where there is no GPU to run it on."""

    def fake(
        q: Tensor, k: Tensor, v: Tensor, starts: Tensor, other_starts: Tensor, longest: int, other_longest: int
    ) -> Tensor:
        assert starts is other_starts and longest == other_longest == 7
        assert q.is_contiguous() and k.is_contiguous() and v.is_contiguous()
        parts = zip(*(x.transpose(0, 1).split(starts.diff().tolist(), dim=1) for x in (q, k, v)), strict=True)
        return torch.cat([attend(*(part[None] for part in image))[0] for image in parts], dim=1).transpose(0, 1)

    packing = packing_of((2, 3), (1, 5), (2, 7))
    query, key, value = torch.randn(3, 1, 2, 25, 8)
    expected = attend_packed(query, key, value, packing)
    monkeypatch.setattr(module, "can_use_varlen", lambda _query: True)
    monkeypatch.setattr(varlen, "varlen_attn", fake)
    torch.testing.assert_close(attend_packed(query, key, value, packing), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_on_a_gpu_one_kernel_for_all_lengths_agrees_with_a_length_at_a_time(dtype: torch.dtype) -> None:
    packing = packing_of((2, 5), (3, 70), (1, 200))
    packing = Packing(packing.groups, packing.starts.cuda())
    query, key, value = (torch.randn(1, 2, 420, 64, dtype=dtype, device="cuda", requires_grad=True) for _ in range(3))
    assert can_use_varlen(query) == (dtype == torch.bfloat16)
    mixed = attend_packed(query, key, value, packing)
    divided = zip(*(packing.split(x.transpose(1, 2)) for x in (query, key, value)), strict=True)
    expected = packing.join([attend(*(x.transpose(1, 2) for x in group)).transpose(1, 2) for group in divided])
    expected = expected.transpose(1, 2)
    torch.testing.assert_close(mixed, expected, atol=2e-2, rtol=2e-2)
    for a, b in zip(
        torch.autograd.grad(mixed.sum(), (query, key, value)),
        torch.autograd.grad(expected.sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)
