"""The weights of EVA and EVA-02 in our model give timm's numbers."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.eva import Eva
from torch import Tensor

from megavit.weights.pretrained.mappings.timm_eva import EVA02, EVA02_LARGE
from tests.helpers.parity import (
    assert_round_trip,
    assert_same_stages,
    load_ours,
    perturb,
    record_our_stages,
    record_outputs,
)

SIZES: dict[str, Any] = {
    "img_size": (24, 32),
    "patch_size": 8,
    "num_classes": 5,
    "embed_dim": 48,
    "depth": 3,
    "num_heads": 4,
    "ref_feat_shape": (16, 16),
    "dynamic_img_size": True,
}
KNOWN = {"image_size": (24, 32), "heads": 4}
SMALL: dict[str, Any] = {"mlp_ratio": 4 * 2 / 3, "swiglu_mlp": True, "use_rot_pos_emb": True}
LARGE = SMALL | {"qkv_fused": False, "scale_mlp": True}
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "EVA": (EVA02, {"mlp_ratio": 2.0}),
    "EVA-02 small": (EVA02, SMALL),
    "EVA-02 large": (EVA02_LARGE, LARGE),
    "EVA-02 CLIP": (EVA02_LARGE, LARGE | {"scale_attn_inner": True, "global_pool": "token"}),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def stages(theirs: Any, x: Tensor) -> dict[str, Tensor]:
    blocks = {f"block {i}": layer for i, layer in enumerate(theirs.blocks)}
    last = theirs.norm if theirs.global_pool == "token" else theirs.fc_norm
    seen = record_outputs(
        theirs, {"patches": theirs.patch_embed, **blocks, "norm": last, "pooled": theirs.head_drop}, x
    )
    seen["patches"] = seen["patches"].flatten(1, 2)
    return seen


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("sides", [(24, 32), (48, 16), (8, 72)])
def test_every_stage_agrees_on_images_of_any_size(name: str, sides: tuple[int, int]) -> None:
    peer, of_theirs = VARIANTS[name]
    theirs = perturb(Eva(**SIZES | of_theirs))
    assert set(peer.signature) <= theirs.state_dict().keys()
    x = torch.randn(2, 3, *sides)
    ours = load_ours(peer, theirs.state_dict(), KNOWN)
    assert ours.config.pool == ("cls" if theirs.global_pool == "token" else "mean")
    assert_same_stages(record_our_stages(ours, x), stages(theirs, x))


@given(
    name=st.sampled_from(sorted(VARIANTS)),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    heads=st.integers(1, 3),
    width=st.sampled_from([4, 8]),
    depth=st.integers(1, 3),
    classes=st.integers(0, 3),
)
def test_there_and_back_is_the_same_to_the_bit(
    name: str, grid: tuple[int, int], patch: tuple[int, int], heads: int, width: int, depth: int, classes: int
) -> None:
    peer, of_theirs = VARIANTS[name]
    image = (grid[0] * patch[0], grid[1] * patch[1])
    theirs = Eva(
        **SIZES
        | of_theirs
        | {
            "img_size": image,
            "patch_size": patch,
            "num_heads": heads,
            "embed_dim": heads * width,
            "depth": depth,
            "num_classes": classes,
        }
    )
    assert_round_trip(peer, perturb(theirs).state_dict(), {"image_size": image, "heads": heads})
