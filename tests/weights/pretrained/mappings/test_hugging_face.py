"""What Hugging Face's config.json and names say, and what is refused."""

import re
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from megavit.errors import BundleError, MegavitError
from megavit.weights.pretrained.mappings.hf_clip import HF_CLIP
from megavit.weights.pretrained.mappings.hf_dinov2 import HF_DINOV2
from megavit.weights.pretrained.mappings.hf_dinov3 import HF_DINOV3
from megavit.weights.pretrained.mappings.hf_vit import HF_VIT
from tests.helpers.peer_models import SMALL

CONFIGS = {
    "vit": transformers.ViTConfig,
    "deit": transformers.DeiTConfig,
    "vit_mae": transformers.ViTMAEConfig,
    "vit_msn": transformers.ViTMSNConfig,
    "ijepa": transformers.IJepaConfig,
    "dinov2": transformers.Dinov2Config,
    "dinov2_with_registers": transformers.Dinov2WithRegistersConfig,
    "dinov3_vit": transformers.DINOv3ViTConfig,
    "clip": transformers.CLIPConfig,
    "clip_vision_model": transformers.CLIPVisionConfig,
    "metaclip_2": transformers.MetaClip2Config,
    "metaclip_2_vision_model": transformers.MetaClip2VisionConfig,
    "chinese_clip": transformers.ChineseCLIPConfig,
    "chinese_clip_vision_model": transformers.ChineseCLIPVisionConfig,
    "altclip": transformers.AltCLIPConfig,
    "altclip_vision_model": transformers.AltCLIPVisionConfig,
    "siglip": transformers.SiglipConfig,
    "siglip_vision_model": transformers.SiglipVisionConfig,
}
PEERS: list[Any] = [HF_VIT, HF_DINOV2, HF_DINOV3, HF_CLIP]
PEER_OF = {model_type: peer for peer in PEERS for model_type in peer.model_types}


def test_no_model_type_is_in_two_tables() -> None:
    assert sorted(PEER_OF) == sorted(CONFIGS) == sorted(name for peer in PEERS for name in peer.model_types)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_what_a_config_leaves_out_is_their_default(model_type: str) -> None:
    peer = PEER_OF[model_type]
    assert peer.settings({"model_type": model_type}) == peer.settings(CONFIGS[model_type]().to_dict())


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_the_image_towers_config_is_taken_out_of_the_whole_models(model_type: str) -> None:
    vision = {"num_attention_heads": 16, "image_size": 384, "hidden_act": "gelu", "layer_norm_eps": 1e-3}
    known = HF_CLIP.settings({"model_type": model_type, "vision_config": vision, "text_config": {"hidden_act": "relu"}})
    assert known == {"heads": 16, "depth": 12, "image_size": (384, 384), "mlp": "gelu", "norm_eps": 1e-3}


@pytest.mark.parametrize(
    ("peer", "settings", "words"),
    [
        (HF_VIT, {"model_type": "vit", "hidden_act": "selu"}, "hidden_act 'selu'"),
        (HF_VIT, {"model_type": "vit", "num_attention_heads": 0}, "num_attention_heads 0, expected a positive integer"),
        (HF_VIT, {"model_type": "vit", "num_attention_heads": "12"}, "num_attention_heads '12'"),
        (HF_VIT, {"model_type": "vit", "num_attention_heads": True}, "num_attention_heads True"),
        (HF_VIT, {"model_type": "vit", "image_size": "224"}, "image_size must be"),
        (HF_VIT, {"model_type": "vit", "image_size": [224, 0]}, "image_size must be"),
        (
            HF_DINOV3,
            {"model_type": "dinov3_vit", "rope_theta": 10_000.0},
            "rope_theta 10000.0; megavit supports only 100.0",
        ),
        (HF_DINOV3, {"model_type": "dinov3_vit", "key_bias": True}, "key_bias True"),
        (HF_DINOV3, {"model_type": "dinov3_vit", "mlp_bias": False}, "mlp_bias False"),
        (HF_DINOV3, {"model_type": "dinov3_vit", "query_bias": False}, "only for queries or only for values"),
        (HF_DINOV3, {"model_type": "dinov3_vit", "use_gated_mlp": True}, "a gated MLP with 'gelu'"),
        (HF_VIT, {"model_type": "beit"}, "model_type 'beit', which megavit does not support: its attention adds"),
        (HF_CLIP, {"model_type": "x"}, "model_type 'x', which megavit does not support; supported are"),
        (HF_CLIP, {}, "has no model_type; supported are"),
        (HF_CLIP, {"model_type": "clip", "vision_config": {"hidden_act": "relu"}}, "hidden_act 'relu'"),
    ],
)
def test_what_the_model_cannot_be_is_refused_by_name(peer: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MegavitError, match=re.escape(words)):
        peer.settings(settings)


def test_an_image_size_that_is_not_said_is_told_by_the_positions() -> None:
    known = HF_CLIP.settings({"model_type": "clip_vision_model", "image_size": None})
    assert "image_size" not in known


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    peer: Any = SMALL[name].family.peer
    state = SMALL[name].make().state_dict()
    return {table_name: tuple(state[found].shape) for found, table_name in peer.names(state).items()}


def test_two_classifiers_are_refused() -> None:
    shapes = shapes_of("DeiT") | {"cls_classifier.weight": (5, 32), "distillation_classifier.weight": (5, 32)}
    with pytest.raises(BundleError, match="DeiT with two classifiers"):
        HF_VIT.config(shapes, {})


def test_dinov2s_classifier_reads_the_class_token_and_the_mean() -> None:
    config = HF_DINOV2.config(shapes_of("DINOv2") | {"classifier.weight": (5, 64)}, {})
    assert (config.pool, config.num_classes, config.pooled_dim) == ("cls_mean", 5, 64)
    assert HF_DINOV2.config(shapes_of("DINOv2"), {}).pool == "cls"


def test_dinov2s_gates_in_memory_are_refused() -> None:
    with pytest.raises(BundleError, match="save_pretrained"):
        HF_DINOV2.config(shapes_of("DINOv2, SwiGLU"), {})


def test_clips_classifier_is_refused() -> None:
    with pytest.raises(BundleError, match="unnormalized patches"):
        HF_CLIP.config(shapes_of("CLIP") | {"classifier.weight": (5, 32)}, {})


def test_patches_as_rows_are_refused() -> None:
    shapes = shapes_of("SigLIP") | {"embeddings.patch_embedding.weight": (32, 192)}
    with pytest.raises(BundleError, match=r"patch_embedding\.weight has shape \(32, 192\), expected 4 axes"):
        HF_CLIP.config(shapes, {})


def test_one_tensor_under_two_names_is_refused() -> None:
    with pytest.raises(BundleError, match=r"vit\.layernorm\.bias and layernorm\.bias, which are the same"):
        HF_VIT.names(["vit.layernorm.bias", "layernorm.bias"])


def test_what_is_left_out_is_only_what_is_known() -> None:
    found = ["text_model.embeddings.x", "logit_scale", "vision_model.embeddings.position_ids", "adapter.weight"]
    assert HF_CLIP.names(found) == {"adapter.weight": "adapter.weight"}
    assert set(HF_VIT.names(["vit.pooler.dense.weight", "decoder.mask_token", "prompts"])) == {"prompts"}


@given(st.dictionaries(st.text(), st.lists(st.integers(0, 4), max_size=4).map(tuple), max_size=4), st.data())
def test_shapes_of_anything_are_a_plain_error(shapes: dict[str, tuple[int, ...]], data: st.DataObject) -> None:
    peer = data.draw(st.sampled_from(PEERS))
    reported = {name: data.draw(st.lists(st.integers(0, 4), max_size=4).map(tuple)) for name in peer.signature}
    with pytest.raises(MegavitError):
        peer.config(shapes | reported, {})
