"""What Hugging Face's config.json and names say, and what is refused."""

import re
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from megavit.errors import BundleError, MegavitError
from megavit.weights.pretrained.mappings import hf_clip, hf_dinov2, hf_dinov3, hf_vit
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
PEERS: list[Any] = [hf_vit, hf_dinov2, hf_dinov3, hf_clip]
PEER_OF = {model_type: peer for peer in PEERS for model_type in peer.TYPES}


def test_no_model_type_is_in_two_tables() -> None:
    assert sorted(PEER_OF) == sorted(CONFIGS) == sorted(name for peer in PEERS for name in peer.TYPES)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_what_a_config_leaves_out_is_their_default(model_type: str) -> None:
    peer = PEER_OF[model_type]
    assert peer.known({"model_type": model_type}) == peer.known(CONFIGS[model_type]().to_dict())


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_the_image_towers_config_is_taken_out_of_the_whole_models(model_type: str) -> None:
    vision = {"num_attention_heads": 16, "image_size": 384, "hidden_act": "gelu", "layer_norm_eps": 1e-3}
    known = hf_clip.known({"model_type": model_type, "vision_config": vision, "text_config": {"hidden_act": "relu"}})
    assert known == {"heads": 16, "depth": 12, "image_size": (384, 384), "mlp": "gelu", "norm_eps": 1e-3}


@pytest.mark.parametrize(
    ("peer", "settings", "words"),
    [
        (hf_vit, {"model_type": "vit", "hidden_act": "selu"}, "hidden_act 'selu'"),
        (hf_vit, {"model_type": "vit", "num_attention_heads": 0}, "num_attention_heads 0, expected a whole number"),
        (hf_vit, {"model_type": "vit", "num_attention_heads": "12"}, "num_attention_heads '12'"),
        (hf_vit, {"model_type": "vit", "num_attention_heads": True}, "num_attention_heads True"),
        (hf_vit, {"model_type": "vit", "image_size": "224"}, "image_size must be"),
        (hf_vit, {"model_type": "vit", "image_size": [224, 0]}, "image_size must be"),
        (
            hf_dinov3,
            {"model_type": "dinov3_vit", "rope_theta": 10_000.0},
            "rope_theta 10000.0; megavit's",
        ),
        (hf_dinov3, {"model_type": "dinov3_vit", "key_bias": True}, "key_bias True"),
        (hf_dinov3, {"model_type": "dinov3_vit", "mlp_bias": False}, "mlp_bias False"),
        (hf_dinov3, {"model_type": "dinov3_vit", "query_bias": False}, "queries or for values alone"),
        (hf_dinov3, {"model_type": "dinov3_vit", "use_gated_mlp": True}, "gates the MLP by 'gelu'"),
        (hf_vit, {"model_type": "beit"}, "model_type 'beit', and megavit has no such model: its attention adds"),
        (hf_clip, {"model_type": "x"}, "model_type 'x', and megavit has no such model; here are read"),
        (hf_clip, {}, "has no model_type; here are read"),
        (hf_clip, {"model_type": "clip", "vision_config": {"hidden_act": "relu"}}, "hidden_act 'relu'"),
    ],
)
def test_what_the_model_cannot_be_is_refused_by_name(peer: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MegavitError, match=re.escape(words)):
        peer.known(settings)


def test_an_image_size_that_is_not_said_is_told_by_the_positions() -> None:
    known = hf_clip.known({"model_type": "clip_vision_model", "image_size": None})
    assert "image_size" not in known


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    peer: Any = SMALL[name].family.peer
    state = SMALL[name].make().state_dict()
    return {table_name: tuple(state[found].shape) for found, table_name in peer.names(state).items()}


def test_two_classifiers_are_refused() -> None:
    shapes = shapes_of("DeiT") | {"cls_classifier.weight": (5, 32), "distillation_classifier.weight": (5, 32)}
    with pytest.raises(BundleError, match="DeiT with two classifiers"):
        hf_vit.config_of(shapes, {})


def test_dinov2s_classifier_is_refused() -> None:
    with pytest.raises(BundleError, match="the class token beside the mean of the patches"):
        hf_dinov2.config_of(shapes_of("DINOv2") | {"classifier.weight": (5, 64)}, {})


def test_dinov2s_gates_in_memory_are_refused() -> None:
    with pytest.raises(BundleError, match="save_pretrained"):
        hf_dinov2.config_of(shapes_of("DINOv2, SwiGLU"), {})


def test_clips_classifier_is_refused() -> None:
    with pytest.raises(BundleError, match="patches that are not normalized"):
        hf_clip.config_of(shapes_of("CLIP") | {"classifier.weight": (5, 32)}, {})


def test_patches_as_rows_are_refused() -> None:
    shapes = shapes_of("SigLIP") | {"embeddings.patch_embedding.weight": (32, 192)}
    with pytest.raises(BundleError, match=r"patch_embedding\.weight has shape \(32, 192\), expected one of 4 axes"):
        hf_clip.config_of(shapes, {})


def test_one_tensor_under_two_names_is_refused() -> None:
    with pytest.raises(BundleError, match=r"vit\.layernorm\.bias and layernorm\.bias, which are the same"):
        hf_vit.names(["vit.layernorm.bias", "layernorm.bias"])


def test_what_is_left_out_is_only_what_is_known() -> None:
    found = ["text_model.embeddings.x", "logit_scale", "vision_model.embeddings.position_ids", "adapter.weight"]
    assert hf_clip.names(found) == {"adapter.weight": "adapter.weight"}
    assert set(hf_vit.names(["vit.pooler.dense.weight", "decoder.mask_token", "prompts"])) == {"prompts"}


@given(st.dictionaries(st.text(), st.lists(st.integers(0, 4), max_size=4).map(tuple), max_size=4), st.data())
def test_shapes_of_anything_are_a_plain_error(shapes: dict[str, tuple[int, ...]], data: st.DataObject) -> None:
    peer = data.draw(st.sampled_from(PEERS))
    told = {name: data.draw(st.lists(st.integers(0, 4), max_size=4).map(tuple)) for name in peer.TOLD_BY}
    with pytest.raises(MegavitError):
        peer.config_of(shapes | told, {})
