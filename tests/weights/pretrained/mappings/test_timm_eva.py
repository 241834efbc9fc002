"""Models of timm's whose tensors have the names of models that we have, and which compute otherwise."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.timm_eva import EVA02
from megavit.weights.pretrained.pretrained import load_pretrained


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in timm.create_model(name).state_dict().items()}


@pytest.mark.parametrize("name", ["vit_pe_core_tiny_patch16_384", "vit_pe_spatial_tiny_patch16_512"])
def test_a_bare_perception_encoder_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(timm.create_model(name).state_dict(), file)
    with pytest.raises(BundleError, match=r"Perception Encoder|norm\.weight"):
        load_pretrained(str(file))


def test_a_bare_eva02_of_enormous_size_is_refused() -> None:
    with pytest.raises(BundleError, match="enormous"):
        EVA02.config(shapes_of("eva02_enormous_patch14_clip_224"), {})
