"""Small models of other libraries, every parameter shaken, to compare with ours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
import transformers
from torch import nn

from benchmarks.parity.stages import FAMILIES, Family, perturb_weights

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "patch_size": 8,
    "image_size": 32,
}
OBLONG: dict[str, Any] = {"image_size": (24, 40)}
LABELS: dict[str, Any] = {"num_labels": 5}


@dataclass(frozen=True)
class Small:
    """How to build one, with other sizes if asked for, and its family."""

    family: Family
    build: Callable[..., nn.Module]

    def make(self, **sizes: Any) -> Any:
        """`Any`, as torch types what is inside of modules too loosely."""
        torch.manual_seed(0)
        model = self.build(**sizes).eval()
        perturb_weights(model)
        return model


def hugging_face(family: str, model: str, config: str, **settings: Any) -> Small:
    def build(**sizes: Any) -> nn.Module:
        return getattr(transformers, model)(getattr(transformers, config)(**SIZES | settings | sizes))

    return Small(FAMILIES[f"Hugging Face {family}"], build)


def of_timm(family: str, name: str, **settings: Any) -> Small:
    # DINOv3's heads have 64 channels, in every model but the largest.
    sizes: dict[str, Any] = {
        "depth": 2,
        "embed_dim": 128,
        "num_heads": 2,
        "mlp_ratio": 1.5,
        "img_size": (32, 48),
        "num_classes": 5,
        "dynamic_img_size": True,
    }

    def build(**others: Any) -> nn.Module:
        return timm.create_model(name, pretrained=False, **sizes | settings | others)

    return Small(FAMILIES[f"timm {family}"], build)


PWEE, REG1, PE = "vit_pwee_patch16_reg1_gap_256", "vit_medium_patch16_rope_reg1_gap_256", "vit_pe_core_tiny_patch16_384"

SMALL = {
    "timm DINOv3": of_timm("DINOv3", "vit_small_patch16_dinov3"),
    "timm DINOv3, biases": of_timm("DINOv3", "vit_small_patch16_dinov3_qkvb"),
    "timm DINOv3, SwiGLU": of_timm("DINOv3", "vit_small_plus_patch16_dinov3_qkvb"),
    "timm DINOv3, norm after pooling": of_timm("DINOv3", "vit_small_patch16_dinov3", use_fc_norm=True),
    "timm DINOv3, no head": of_timm("DINOv3", "vit_small_patch16_dinov3", num_classes=0),
    "timm parallel": of_timm("parallel", PWEE),
    "timm parallel, norms of queries and keys": of_timm("parallel", PWEE, qk_norm=True, qkv_bias=True),
    "timm parallel, RMSNorm": of_timm("parallel", "vit_base_patch16_xp_224"),
    "timm rotary": of_timm("rotary", REG1),
    "timm rotary, four registers": of_timm("rotary", "vit_betwixt_patch16_rope_reg4_gap_256"),
    "timm rotary, no bias": of_timm("rotary", "vit_mediumd_patch16_rope_reg1_gap_256"),
    "timm rotary, biases of keys": of_timm("rotary", REG1, attn_type="rope", qk_norm=True),
    "timm Perception Encoder": of_timm("Perception Encoder", PE, ref_feat_shape=(2, 3), attn_pool_mlp_ratio=1.5),
    "ViT": hugging_face("ViT", "ViTModel", "ViTConfig"),
    "ViT, oblong": hugging_face("ViT", "ViTModel", "ViTConfig", **OBLONG),
    "ViT, oblong patches": hugging_face("ViT", "ViTModel", "ViTConfig", image_size=(24, 40), patch_size=(12, 8)),
    "ViT, gray": hugging_face("ViT", "ViTModel", "ViTConfig", num_channels=1),
    "ViT, no QKV bias": hugging_face("ViT", "ViTModel", "ViTConfig", qkv_bias=False),
    "ViT, classes": hugging_face("ViT", "ViTForImageClassification", "ViTConfig", **LABELS),
    "DeiT": hugging_face("ViT", "DeiTModel", "DeiTConfig", **OBLONG),
    "DeiT, classes": hugging_face("ViT", "DeiTForImageClassification", "DeiTConfig", **LABELS),
    "ViT-MAE": hugging_face("ViT", "ViTMAEModel", "ViTMAEConfig", mask_ratio=0.0),
    "ViT-MSN": hugging_face("ViT", "ViTMSNModel", "ViTMSNConfig", **OBLONG),
    "ViT-MSN, classes": hugging_face("ViT", "ViTMSNForImageClassification", "ViTMSNConfig", **LABELS),
    "I-JEPA": hugging_face("ViT", "IJepaModel", "IJepaConfig", **OBLONG),
    "I-JEPA, classes": hugging_face("ViT", "IJepaForImageClassification", "IJepaConfig", **LABELS),
    "DINOv2": hugging_face("DINOv2", "Dinov2Model", "Dinov2Config"),
    "DINOv2, SwiGLU": hugging_face("DINOv2", "Dinov2Model", "Dinov2Config", use_swiglu_ffn=True),
    "DINOv2, registers": hugging_face("DINOv2", "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig"),
    "DINOv2, classes": hugging_face("DINOv2", "Dinov2ForImageClassification", "Dinov2Config", **LABELS),
    "DINOv2, registers, classes": hugging_face(
        "DINOv2", "Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", **LABELS
    ),
    "DINOv3": hugging_face("DINOv3", "DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=3, **OBLONG),
    "DINOv3, no registers": hugging_face("DINOv3", "DINOv3ViTModel", "DINOv3ViTConfig"),
    "DINOv3, no bias": hugging_face("DINOv3", "DINOv3ViTModel", "DINOv3ViTConfig", query_bias=False, value_bias=False),
    "DINOv3, SwiGLU": hugging_face(
        "DINOv3", "DINOv3ViTModel", "DINOv3ViTConfig", use_gated_mlp=True, hidden_act="silu", num_register_tokens=1
    ),
    "CLIP": hugging_face("CLIP", "CLIPVisionModel", "CLIPVisionConfig"),
    "CLIP, GELU": hugging_face("CLIP", "CLIPVisionModel", "CLIPVisionConfig", hidden_act="gelu"),
    "CLIP, projection": hugging_face("CLIP", "CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=7),
    "SigLIP": hugging_face("CLIP", "SiglipVisionModel", "SiglipVisionConfig"),
    "SigLIP, no head": hugging_face("CLIP", "SiglipVisionModel", "SiglipVisionConfig", vision_use_head=False),
}
