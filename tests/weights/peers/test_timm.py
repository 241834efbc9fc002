"""timm's real architectures as its own registry builds them, on no device: what their names and shapes say of them."""

import re
from typing import Any

import pytest
import timm
import torch
from torch import nn

from megavit.errors import BundleError
from megavit.weights.foreign import layout_of
from megavit.weights.keys import check_shapes
from megavit.weights.peers import timm_names

# At least one of every kind, above all those of which no shape tells the heads, the norm or the activation.
NAMES = [
    "deit3_small_patch16_224",
    "eva02_base_patch16_clip_224",
    "eva_large_patch14_196",
    "flexivit_small",
    "vit_base_patch16_gap_224",
    "vit_base_patch16_siglip_224",
    "vit_base_patch32_clip_224",
    "vit_base_patch32_clip_quickgelu_224",
    "vit_base_patch32_siglip_256",
    "vit_giantopt_patch16_siglip_gap_256",
    "vit_giant_patch14_dinov2",
    "vit_huge_plus_patch16_dinov3",
    "vit_medium_patch16_reg4_gap_256",
    "vit_small_patch16_dinov3_qkvb",
    "vit_so150m_patch16_reg4_gap_256",
    "vit_so150m_patch16_reg4_map_256",
    "vit_so400m_patch14_siglip_224",
    "vit_so400m_patch16_siglip_256",
]
ACTIVATIONS = {"GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "GELU": "gelu", "SiLU": "swiglu"}
POOLS = {"token": "cls", "avg": "mean", "map": "map"}


def built(name: str) -> tuple[Any, dict[str, tuple[int, ...]]]:
    with torch.device("meta"):
        model: Any = timm.create_model(name, pretrained=False)
    return model, {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_and_the_shapes_tell_the_whole_model(name: str) -> None:
    model, shapes = built(name)
    peer = layout_of(model.state_dict(), name)
    config = peer.config_of(shapes, timm_names.known({"architecture": name, "global_pool": model.global_pool}))
    check_shapes(peer.table(config), shapes, name)
    block = model.blocks[0]
    norm = next(norm for norm in (model.norm, model.fc_norm) if not isinstance(norm, nn.Identity))
    assert config.heads == block.attn.num_heads
    assert config.design.norm_eps == norm.eps
    assert config.design.mlp == ACTIVATIONS[type(block.mlp.act).__name__]
    assert config.pool == POOLS[model.global_pool]
    assert config.image_hw == model.patch_embed.img_size


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_base_patch16_rpn_224", "block_fn: 'ResPostBlock', norms behind the branches"),
        ("vit_small_patch16_18x2_224", "block_fn: 'ParallelThingsBlock', several attentions and MLPs side by side"),
        ("vit_dpwee_patch16_reg1_gap_256", "block_fn: 'DiffParallelScalingBlock', attention as the difference of two"),
        ("vit_dwee_patch16_reg1_gap_256", "attn_layer: 'diff', another attention"),
        ("eva02_enormous_patch14_clip_224", "use_post_norm: True, norms behind the branches"),
        ("vit_pe_core_tiny_patch16_384", "rope_grid_offset: 1.0, where megavit has 0.0"),
        ("vit_small_patch16_rope_mixed_224", "rope_type: 'mixed'"),
        ("vit_base_patch16_sapiens2", "attn_only_layer_scale: True, a scale of the attention alone"),
        ("aimv2_large_patch14_224", "embed_norm_layer: 'rmsnorm', a norm of the patches"),
        ("vit_intern300m_patch14_448", "final_norm: False, no norm after the layers"),
        ("test_vit3", "pool_include_prefix: True, where megavit pools the patches alone"),
        ("deit_tiny_distilled_patch16_224", "it has two classifiers"),
        ("beit_base_patch16_224", "its positions are relative ones"),
        ("vit_relpos_base_patch16_cls_224", "its positions are relative ones"),
        ("samvit_base_patch16", "its attention is within windows"),
        ("vit_tiny_r_s16_p8_224", "convolutions stand before its patches"),
        ("vit_base_resnet50d_224", "convolutions stand before its patches"),
        ("vit_base_mci_224", "convolutions stand before its patches"),
        ("naflexvit_base_patch16_gap", "its patches and positions are kept otherwise"),
    ],
)
def test_what_the_model_cannot_be_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(BundleError, match=re.escape(words)):
        timm_names.known({"architecture": name})


def test_a_pooling_that_megavit_lacks_is_refused() -> None:
    with pytest.raises(BundleError, match="global_pool: 'avgmax', where megavit has token, avg, map"):
        timm_names.known({"architecture": "vit_tiny_patch16_224", "global_pool": "avgmax"})


def test_a_file_without_a_name_has_no_facts() -> None:
    assert timm_names.known({}) == {}
