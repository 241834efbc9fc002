"""The weights of zetascale's MegaVit in our model give its numbers.

zetascale cannot be installed beside us, so it is its arithmetic that ours is compared with.
"""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.parity import zetascale
from benchmarks.parity.stages import FAMILIES, peer_stages
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import to_ours, to_theirs
from megavit.weights.pretrained.mappings.zetascale import ZETASCALE
from tests.helpers.parity import assert_round_trip, assert_same_stages, get_shapes, load_ours, record_our_stages

SIZES: dict[str, Any] = {
    "image_size": (24, 32),
    "patch_size": (8, 4),
    "channels": 3,
    "num_classes": 5,
    "dim": 48,
    "depth": 3,
    "heads": 4,
    "dim_head": 8,
    "mlp_dim": 80,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def weights(
    image_size: tuple[int, int],
    patch_size: tuple[int, int],
    channels: int,
    num_classes: int,
    dim: int,
    depth: int,
    heads: int,
    dim_head: int,
    mlp_dim: int,
) -> dict[str, Tensor]:
    """A state dict as `zeta.models.MegaVit` saves it, of random numbers."""
    pixels, inner = channels * patch_size[0] * patch_size[1], heads * dim_head
    patches = image_size[0] * image_size[1] // (patch_size[0] * patch_size[1])
    norms = {"to_patch_embedding.1": pixels, "to_patch_embedding.3": dim, "transformer.norm": dim}
    linears = {"to_patch_embedding.2": (dim, pixels), "mlp_head": (num_classes, dim)}
    tensors = {"pos_embedding": torch.randn(1, patches + 1, dim), "cls_token": torch.randn(1, 1, dim)}
    for i in range(depth):
        attention, mlp = f"transformer.layers.{i}.0.", f"transformer.layers.{i}.1.net."
        norms |= {attention + "norm": dim, attention + "norm_k": dim_head, attention + "norm_v": dim_head}
        norms[mlp + "0"] = dim
        linears |= {mlp + "1": (mlp_dim, dim), mlp + "4": (dim, mlp_dim)}
        if not (heads == 1 and dim_head == dim):
            linears[attention + "to_out.0"] = (dim, inner)
        tensors[attention + "to_qkv.weight"] = torch.randn(3 * inner, dim) * dim**-0.5
    for name, width in norms.items():
        tensors |= {f"{name}.weight": 1 + 0.1 * torch.randn(width), f"{name}.bias": 0.1 * torch.randn(width)}
    for name, (out, into) in linears.items():
        tensors |= {f"{name}.weight": torch.randn(out, into) * into**-0.5, f"{name}.bias": 0.1 * torch.randn(out)}
    return tensors


def test_every_stage_agrees() -> None:
    tensors = weights(**SIZES)
    theirs = zetascale.MegaVit(**SIZES).eval()
    theirs.load_state_dict(tensors)
    x = torch.randn(2, 3, 24, 32)
    ours = load_ours(ZETASCALE, tensors, {"image_size": (24, 32), "patch_size": (8, 4)})
    assert_same_stages(record_our_stages(ours, x), peer_stages(FAMILIES["zetascale"], theirs, x))


@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    patch_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 4),
    dim=st.sampled_from([8, 12]),
    depth=st.integers(1, 3),
    heads=st.integers(1, 3),
    dim_head=st.sampled_from([4, 8, 12]),
)
def test_there_and_back_is_the_same_to_the_bit(
    grid: tuple[int, int], patch_size: tuple[int, int], channels: int, **sizes: Any
) -> None:
    image_size = (grid[0] * patch_size[0], grid[1] * patch_size[1])
    known = {"image_size": image_size, "patch_size": patch_size, "channels": channels}
    assert_round_trip(ZETASCALE, weights(**known, **sizes, num_classes=3, mlp_dim=5), known)


def test_the_shared_norm_is_not_written_once_layers_differ() -> None:
    tensors = weights(**SIZES)
    config = ZETASCALE.config(get_shapes(tensors), {"image_size": (24, 32), "patch_size": (8, 4)})
    rules = ZETASCALE.key_rules(config)
    state = to_ours(rules, tensors, config)
    state["transformer.layers.1.stream_norm.weight"][3] += 1
    with pytest.raises(BundleError, match=r"shares one transformer\.norm\.weight among several"):
        to_theirs(rules, state)


def test_a_mean_over_the_class_token_too_is_refused() -> None:
    with pytest.raises(BundleError, match="includes the class token"):
        ZETASCALE.config(get_shapes(weights(**SIZES)), {"pool": "mean"})
