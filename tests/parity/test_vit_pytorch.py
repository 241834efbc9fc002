"""vit-pytorch's weights in our model give vit-pytorch's numbers."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vit_pytorch import SimpleViT, ViT

from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import to_ours, to_theirs
from megavit.weights.pretrained.mappings.vit_pytorch import SIMPLE_VIT, VIT_PYTORCH
from tests.helpers.parity import (
    assert_round_trip,
    assert_same_stages,
    get_shapes,
    load_ours,
    perturb,
    record_our_stages,
    record_outputs,
)

SIZES: dict[str, Any] = {
    "image_size": (24, 32),
    "patch_size": (8, 4),
    "num_classes": 5,
    "dim": 48,
    "depth": 3,
    "heads": 4,
    "dim_head": 8,
    "mlp_dim": 80,
}
KNOWN = {"image_size": (24, 32), "patch_size": (8, 4), "heads": 4}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def stages(theirs: Any, x: torch.Tensor, mean: bool) -> dict[str, torch.Tensor]:
    blocks = {f"mlp {i}": layer[1] for i, layer in enumerate(theirs.transformer.layers)}
    attention = {f"attention {i}": layer[0] for i, layer in enumerate(theirs.transformer.layers)}
    seen = record_outputs(
        theirs,
        {
            "patches": theirs.to_patch_embedding,
            **attention,
            **blocks,
            "norm": theirs.transformer.norm,
            "pooled": theirs.to_latent,
        },
        x,
    )
    # Theirs adds what a layer answers outside of its modules.
    stream = seen["patches"]
    if hasattr(theirs, "cls_token"):
        stream = torch.cat([theirs.cls_token.expand(len(x), -1, -1), stream], dim=1)
    stream = stream + theirs.pos_embedding
    for i in range(len(blocks)):
        stream = stream + seen.pop(f"attention {i}") + seen.pop(f"mlp {i}")
        seen[f"block {i}"] = stream
    assert mean == (theirs.pool == "mean")
    return seen


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_stage_agrees(pool: str, channels: int) -> None:
    theirs = perturb(ViT(**SIZES, pool=pool, channels=channels))
    x = torch.randn(2, channels, 24, 32)
    ours = load_ours(VIT_PYTORCH, theirs.state_dict(), KNOWN | {"channels": channels})
    assert ours.config.pool == pool
    assert_same_stages(record_our_stages(ours, x), stages(theirs, x, pool == "mean"))


def test_every_stage_of_a_simple_one_agrees() -> None:
    theirs = perturb(SimpleViT(**SIZES))
    x = torch.randn(2, 3, 24, 32)
    assert_same_stages(record_our_stages(load_ours(SIMPLE_VIT, theirs.state_dict(), KNOWN), x), stages(theirs, x, True))


def test_one_head_as_wide_as_a_token_has_no_projection_and_still_agrees() -> None:
    theirs = perturb(ViT(**SIZES | {"heads": 1, "dim_head": 48}))
    x = torch.randn(2, 3, 24, 32)
    known = {"image_size": (24, 32), "patch_size": (8, 4)}
    assert_same_stages(
        record_our_stages(load_ours(VIT_PYTORCH, theirs.state_dict(), known), x), stages(theirs, x, False)
    )


def test_a_projection_that_learned_something_is_not_left_out() -> None:
    tensors = ViT(**SIZES | {"heads": 1, "dim_head": 48}).state_dict()
    config = VIT_PYTORCH.config(get_shapes(tensors), KNOWN)
    rules = VIT_PYTORCH.key_rules(config)
    state = to_ours(rules, tensors, config)
    state["transformer.layers.1.attention.out.weight"][0, 1] = 0.5
    with pytest.raises(BundleError, match=r"layers\.1\.attention\.out\.weight cannot be written"):
        to_theirs(rules, state)


SHAPES = st.fixed_dictionaries(
    {
        "grid": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "patch_size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "channels": st.integers(1, 4),
        "dim": st.sampled_from([8, 12]),
        "depth": st.integers(1, 3),
        "heads": st.integers(1, 3),
        "dim_head": st.sampled_from([4, 8, 12]),
        "mlp_dim": st.integers(1, 9),
        "num_classes": st.integers(1, 4),
    }
)


def with_image(sizes: dict[str, Any]) -> dict[str, Any]:
    grid = sizes.pop("grid")
    return sizes | {"image_size": tuple(n * p for n, p in zip(grid, sizes["patch_size"], strict=True))}


@given(sizes=SHAPES, pool=st.sampled_from(["cls", "mean"]))
def test_there_and_back_is_the_same_to_the_bit(sizes: dict[str, Any], pool: str) -> None:
    sizes = with_image(sizes)
    known = {key: sizes[key] for key in ("image_size", "patch_size", "channels", "heads")}
    assert_round_trip(VIT_PYTORCH, perturb(ViT(**sizes, pool=pool)).state_dict(), known)


@given(sizes=SHAPES)
def test_a_simple_one_comes_back_the_same_to_the_bit(sizes: dict[str, Any]) -> None:
    sizes = with_image(sizes)
    known = {key: sizes[key] for key in ("image_size", "patch_size", "channels", "heads")}
    assert_round_trip(SIMPLE_VIT, perturb(SimpleViT(**sizes)).state_dict(), known)


def test_square_patches_of_three_channels_and_heads_of_64_are_told_from_the_shapes() -> None:
    tensors = ViT(image_size=24, patch_size=8, num_classes=5, dim=32, depth=1, heads=2, mlp_dim=16).state_dict()
    config = VIT_PYTORCH.config(get_shapes(tensors), {})
    assert (config.image_hw, config.patch_hw, config.channels) == ((24, 24), (8, 8), 3)
    assert (config.heads, config.dim_head) == (2, 64)


def test_the_batch_axes_of_older_versions_go() -> None:
    tensors = ViT(**SIZES).state_dict()
    old = tensors | {name: tensors[name][None] for name in ("cls_token", "pos_embedding")}
    assert get_shapes(VIT_PYTORCH.normalize(old)) == get_shapes(tensors) == get_shapes(VIT_PYTORCH.normalize(tensors))


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ({"pool": "mean"}, "includes the class token"),
        ({"patch_size": 7}, "convert --patch-size --channels"),
        ({"patch_size": (8, 4), "heads": 5}, "convert --num-heads"),
        ({"patch_size": (8, 4), "heads": 4, "image_size": None}, "set the image size"),
    ],
)
def test_what_cannot_be_known_is_asked_for(known: dict[str, Any], says: str) -> None:
    shapes = get_shapes(ViT(**SIZES | {"image_size": (24, 40)}).state_dict())
    known = {key: value for key, value in known.items() if value is not None}
    with pytest.raises(BundleError, match=says):
        VIT_PYTORCH.config(shapes, known)


def test_a_simple_one_needs_the_image_size() -> None:
    with pytest.raises(BundleError, match="image size: set it with"):
        SIMPLE_VIT.config(get_shapes(SimpleViT(**SIZES).state_dict()), {})
