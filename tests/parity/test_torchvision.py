"""torchvision's weights in our model give torchvision's numbers."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.vision_transformer import VisionTransformer

from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.torchvision import TORCHVISION
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

SIZES: dict[str, Any] = {
    "image_size": 24,
    "patch_size": 8,
    "num_layers": 3,
    "num_heads": 4,
    "hidden_dim": 48,
    "mlp_dim": 80,
    "num_classes": 5,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def of_size(**changed: Any) -> Any:
    return perturb(VisionTransformer(**SIZES | changed))


@pytest.mark.parametrize("image_size", [24, 40])
def test_every_stage_agrees(image_size: int) -> None:
    theirs = of_size(image_size=image_size)
    x = torch.randn(2, 3, image_size, image_size)
    blocks = {f"block {i}": layer for i, layer in enumerate(theirs.encoder.layers)}
    yours = record_outputs(theirs, {"patches": theirs.conv_proj, **blocks, "norm": theirs.encoder.ln}, x)
    yours["patches"] = yours["patches"].flatten(2).mT
    yours["pooled"] = yours["norm"][:, 0]
    assert_same_stages(record_our_stages(load_ours(TORCHVISION, theirs.state_dict(), {"heads": 4}), x), yours)


def test_the_mlps_of_older_versions_have_their_place() -> None:
    tensors = of_size().state_dict()
    old = {name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): t for name, t in tensors.items()}
    assert old.keys() != tensors.keys()
    assert rename_tensors(TORCHVISION, old).keys() == tensors.keys() == rename_tensors(TORCHVISION, tensors).keys()


@given(
    grid=st.integers(1, 4),
    patch=st.integers(1, 5),
    heads=st.integers(1, 3),
    width=st.integers(1, 4),
    depth=st.integers(1, 3),
    classes=st.integers(1, 4),
)
def test_there_and_back_is_the_same_to_the_bit(
    grid: int, patch: int, heads: int, width: int, depth: int, classes: int
) -> None:
    theirs = of_size(
        image_size=grid * patch,
        patch_size=patch,
        num_layers=depth,
        num_heads=heads,
        hidden_dim=heads * width,
        mlp_dim=7,
        num_classes=classes,
    )
    assert_round_trip(TORCHVISION, theirs.state_dict(), {"heads": heads})


def test_a_model_without_a_head_gives_features() -> None:
    theirs = of_size()
    theirs.heads = torch.nn.Identity()
    x = torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(
        load_ours(TORCHVISION, theirs.state_dict(), {"heads": 4})(x), theirs(x), atol=1e-5, rtol=1e-5
    )


def test_a_head_of_two_layers_is_refused() -> None:
    shapes = get_shapes(of_size(representation_size=16).state_dict())
    with pytest.raises(BundleError, match="representation_size"):
        TORCHVISION.config(shapes, {})


def test_a_stem_of_convolutions_is_refused() -> None:
    shapes = get_shapes(of_size().state_dict())
    shapes["conv_proj.conv_last.weight"] = shapes.pop("conv_proj.weight")
    assert shapes.keys() >= set(TORCHVISION.signature)
    with pytest.raises(BundleError, match="several convolutions"):
        TORCHVISION.config(shapes, {})
