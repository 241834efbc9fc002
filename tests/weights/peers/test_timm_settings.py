"""What our table says of timm's architectures is what timm builds, for every plain ViT that it has."""

import warnings

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from megavit.errors import MegavitError
from megavit.weights.keys import their_shapes
from megavit.weights.peers import timm_settings, timm_vit

ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "swiglu"}
# Those that are built in a second; the same architecture at another size says nothing new.
SMALL = [name for name in timm.list_models("vit_*") if not any(big in name for big in ("gigantic", "giant", "huge"))]


@pytest.mark.parametrize("start", range(0, len(SMALL), 20))
def test_facts_that_no_shape_shows(start: int) -> None:
    checked = 0
    for name in SMALL[start : start + 20]:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            model = timm.create_model(name)
        if type(model) is not VisionTransformer:
            continue
        shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        settings = {
            "architecture": name,
            "global_pool": model.global_pool,
            "pretrained_cfg": {"input_size": model.pretrained_cfg["input_size"]},
        }
        try:
            config = timm_vit.config_of(shapes, timm_settings.known(settings))
            if their_shapes(timm_vit.table(config)) != shapes:
                continue  # convolutions before the patches, parallel blocks, and other parts that are not plain
        except (MegavitError, KeyError):
            continue
        block = model.blocks[0]
        assert config.heads == block.attn.num_heads, name
        assert config.design.norm_eps == block.norm1.eps, name
        assert config.design.mlp == ACTIVATIONS[type(block.mlp.act).__name__], name
        assert config.pool == {"token": "cls", "avg": "mean", "map": "map"}[model.global_pool], name
        checked += 1
    assert checked > 0
