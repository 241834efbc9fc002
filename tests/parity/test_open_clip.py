"""OpenCLIP's weights in our model give OpenCLIP's numbers."""

from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from megavit.errors import BundleError
from megavit.weights.pretrained.formats import FORMATS, detect_format
from megavit.weights.pretrained.mappings.key_mapping import to_ours, to_theirs
from megavit.weights.pretrained.mappings.open_clip import OPEN_CLIP
from tests.helpers.parity import (
    assert_round_trip,
    assert_same_stages,
    get_shapes,
    load_ours,
    perturb,
    record_our_stages,
    record_outputs,
    rename_tensors,
)

open_clip = pytest.importorskip("open_clip")

SIZES: dict[str, Any] = {
    "image_size": (24, 32),
    "patch_size": (8, 4),
    "width": 48,
    "layers": 3,
    "heads": 4,
    "mlp_ratio": 1.5,
    "output_dim": 7,
}
KNOWN = {"image_size": (24, 32), "heads": 4}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "mean": ({"pool_type": "avg"}, {"pool": "mean"}),
    "norm after pooling": ({"final_ln_after_pool": True, "pool_type": "avg"}, {"pool": "mean", "final_norm": "pooled"}),
    "no norm before": ({"no_ln_pre": True}, {}),
    "layer scale": ({"ls_init_value": 0.1}, {}),
    "quick gelu": ({"act_layer": open_clip.transformer.QuickGELU}, {"mlp": "quick_gelu"}),
    "another epsilon": ({"norm_layer": partial(nn.LayerNorm, eps=1e-2)}, {"norm_eps": 1e-2}),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def stages(theirs: Any, x: Tensor) -> dict[str, Tensor]:
    blocks = {f"block {i}": layer for i, layer in enumerate(theirs.transformer.resblocks)}
    seen = record_outputs(theirs, {"patches": theirs.conv1, **blocks, "norm": theirs.ln_post}, x)
    seen["patches"] = seen["patches"].flatten(2).mT
    return seen


@pytest.mark.parametrize("name", VARIANTS)
def test_every_stage_agrees(name: str) -> None:
    of_theirs, facts = VARIANTS[name]
    theirs = perturb(open_clip.transformer.VisionTransformer(**SIZES | of_theirs))
    x = torch.randn(2, 3, 24, 32)
    ours = load_ours(OPEN_CLIP, theirs.state_dict(), KNOWN | facts)
    assert_same_stages(record_our_stages(ours, x), stages(theirs, x))
    assert ours(x).shape == (2, 7)


def of_settings(vision: dict[str, Any], **more: Any) -> tuple[Any, dict[str, Any]]:
    """A whole CLIP, and the settings that describe it."""
    settings = {"embed_dim": 7, "vision_cfg": vision, **more}
    text = open_clip.model.CLIPTextCfg(context_length=5, vocab_size=11, width=16, heads=2, layers=1)
    return perturb(
        open_clip.model.CLIP(7, open_clip.model.CLIPVisionCfg(**vision), text, quick_gelu=more.get("quick_gelu", False))
    ), settings


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("pool_type", ["tok", "avg"])
def test_the_visual_tower_of_a_whole_checkpoint_is_told_by_its_settings(quick_gelu: bool, pool_type: str) -> None:
    vision = {"image_size": 24, "patch_size": 8, "width": 48, "head_width": 8, "layers": 2, "pool_type": pool_type}
    clip, settings = of_settings(vision, quick_gelu=quick_gelu)
    tower = rename_tensors(OPEN_CLIP, clip.state_dict())
    (layout,) = [one for one in FORMATS if one.name == "OpenCLIP"]
    assert detect_format(list(clip.state_dict())) == detect_format(list(tower)) == layout
    assert tower.keys() == clip.visual.state_dict().keys() >= set(OPEN_CLIP.signature)
    x = torch.randn(2, 3, 24, 24)
    for form in (settings, {"model_cfg": settings, "preprocess_cfg": {}}):
        ours = load_ours(OPEN_CLIP, tower, OPEN_CLIP.settings(form))
        assert ours.config.heads == 6
        torch.testing.assert_close(ours(x), clip.encode_image(x), atol=1e-5, rtol=1e-5)


def test_the_settings_defaults_are_open_clips() -> None:
    vision = asdict(open_clip.model.CLIPVisionCfg(width=48, head_width=8, image_size=24))
    assert OPEN_CLIP.settings({"vision_cfg": {"width": 48, "head_width": 8, "image_size": 24}}) == OPEN_CLIP.settings(
        {"vision_cfg": vision}
    )


@pytest.mark.parametrize(
    "vision",
    [{"timm_model_name": "vit"}, {"attentional_pool": True}, {"block_type": "custom"}, {"pool_type": "none"}],
)
def test_parts_that_we_have_not_are_refused_by_name(vision: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=f"{next(iter(vision))} {next(iter(vision.values()))!r}"):
        OPEN_CLIP.settings({"vision_cfg": vision})


def test_an_attentional_pooler_is_refused() -> None:
    theirs = open_clip.transformer.VisionTransformer(**SIZES, attentional_pool=True, attn_pooler_heads=1)
    with pytest.raises(BundleError, match="attentional pooler"):
        OPEN_CLIP.config(get_shapes(theirs.state_dict()), KNOWN)


def test_a_head_that_learned_a_bias_is_not_written_without_it() -> None:
    tensors = open_clip.transformer.VisionTransformer(**SIZES).state_dict()
    config = OPEN_CLIP.config(get_shapes(tensors), KNOWN)
    rules = OPEN_CLIP.key_rules(config)
    state = to_ours(rules, tensors, config)
    state["mlp_head.bias"][2] = 1e-3
    with pytest.raises(BundleError, match=r"mlp_head\.bias cannot be written"):
        to_theirs(rules, state)


@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    heads=st.integers(1, 3),
    layers=st.integers(1, 3),
    output_dim=st.integers(1, 4),
    mean=st.booleans(),
    more=st.fixed_dictionaries({}, optional={"no_ln_pre": st.just(True), "ls_init_value": st.just(0.1)}),
)
def test_there_and_back_is_the_same_to_the_bit(
    grid: tuple[int, int], patch: tuple[int, int], heads: int, mean: bool, more: dict[str, Any], **sizes: int
) -> None:
    image = (grid[0] * patch[0], grid[1] * patch[1])
    tower: Any = partial(
        open_clip.transformer.VisionTransformer, image_size=image, patch_size=patch, width=4 * heads, heads=heads
    )
    facts = {"image_size": image, "heads": heads, "pool": "mean" if mean else "cls"}
    assert_round_trip(OPEN_CLIP, perturb(tower(mlp_ratio=1.5, **sizes, **more)).state_dict(), facts)
