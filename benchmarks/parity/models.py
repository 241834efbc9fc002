"""The real architectures of the parity table, at full size with random weights: a line a model."""

from collections.abc import Callable
from typing import Any

import open_clip
import timm
import torchvision
import transformers
import vit_pytorch
from torch import nn

from benchmarks.parity import zetascale

Build = Callable[[], nn.Module]


def from_timm(name: str, **arguments: Any) -> Build:
    return lambda: timm.create_model(name, pretrained=False, **arguments)


def from_torchvision(name: str) -> Build:
    return lambda: getattr(torchvision.models, name)(weights=None)


def from_open_clip(name: str) -> Build:
    """The image tower, with the settings of the whole model beside it, as in its open_clip_config.json."""

    def build() -> nn.Module:
        settings: Any = open_clip.get_model_config(name)
        tower: Any = open_clip.CLIP(**settings).visual
        tower.settings = settings
        return tower

    return build


def from_transformers(
    model: str, config: str, width: int, depth: int, heads: int, mlp: int | None, **options: Any
) -> Build:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    if mlp is not None:
        sizes["intermediate_size"] = mlp
    return lambda: getattr(transformers, model)(getattr(transformers, config)(**sizes, **options))


def dinov3(width: int, depth: int, heads: int, mlp: int, **options: Any) -> Build:
    return from_transformers(
        "DINOv3ViTModel", "DINOv3ViTConfig", width, depth, heads, mlp, num_register_tokens=4, **options
    )


B, L, H = (768, 12, 12, 3072), (1024, 24, 16, 4096), (1280, 32, 16, 5120)
B16 = {"image_size": 224, "patch_size": 16, "num_classes": 1000, "dim": 768, "depth": 12, "heads": 12, "mlp_dim": 3072}
# As in the documentation of zetascale.
MEGA_VIT = {
    "image_size": 256,
    "patch_size": 32,
    "num_classes": 1000,
    "dim": 512,
    "depth": 6,
    "heads": 8,
    "mlp_dim": 1024,
}
# LayerScale's factors start at 1e-5, where a wrong layer would hardly show.
SCALED = {"init_values": 1.0}
SWIGLU = {"use_gated_mlp": True, "hidden_act": "silu"}
DINOV2 = ("Dinov2Model", "Dinov2Config")
DINOV2_REG = ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig")
AT_518 = {"image_size": 518, "patch_size": 14}

# name -> (family, how to build it)
MODELS: dict[str, tuple[str, Build]] = {
    "timm vit_tiny_patch16_224": ("timm ViT", from_timm("vit_tiny_patch16_224")),
    "timm vit_small_patch16_224": ("timm ViT", from_timm("vit_small_patch16_224")),
    "timm vit_base_patch16_224": ("timm ViT", from_timm("vit_base_patch16_224")),
    "timm vit_base_patch32_384": ("timm ViT", from_timm("vit_base_patch32_384")),
    "timm vit_large_patch16_224": ("timm ViT", from_timm("vit_large_patch16_224")),
    "timm vit_huge_patch14_224": ("timm ViT", from_timm("vit_huge_patch14_224")),
    "timm vit_medium_patch16_reg4_gap_256": ("timm ViT", from_timm("vit_medium_patch16_reg4_gap_256")),
    "timm deit3_base_patch16_224": ("timm ViT", from_timm("deit3_base_patch16_224", **SCALED)),
    "timm vit_small_patch14_dinov2": ("timm ViT", from_timm("vit_small_patch14_dinov2", **SCALED)),
    "timm vit_base_patch14_reg4_dinov2": ("timm ViT", from_timm("vit_base_patch14_reg4_dinov2", **SCALED)),
    "timm vit_base_patch16_siglip_224": ("timm ViT", from_timm("vit_base_patch16_siglip_224")),
    "timm vit_base_patch32_siglip_256": ("timm ViT", from_timm("vit_base_patch32_siglip_256")),
    "timm vit_base_patch32_clip_quickgelu_224": ("timm ViT", from_timm("vit_base_patch32_clip_quickgelu_224")),
    "timm vit_so400m_patch14_siglip_224": ("timm ViT", from_timm("vit_so400m_patch14_siglip_224")),
    "timm vit_small_patch16_dinov3": ("timm DINOv3", from_timm("vit_small_patch16_dinov3", **SCALED)),
    "timm vit_small_plus_patch16_dinov3_qkvb": (
        "timm DINOv3",
        from_timm("vit_small_plus_patch16_dinov3_qkvb", **SCALED),
    ),
    "timm vit_base_patch16_dinov3": ("timm DINOv3", from_timm("vit_base_patch16_dinov3", **SCALED)),
    "timm vit_large_patch16_dinov3": ("timm DINOv3", from_timm("vit_large_patch16_dinov3", **SCALED)),
    "timm vit_huge_plus_patch16_dinov3_qkvb": ("timm DINOv3", from_timm("vit_huge_plus_patch16_dinov3_qkvb", **SCALED)),
    "timm eva02_tiny_patch14_224": ("timm EVA-02", from_timm("eva02_tiny_patch14_224")),
    "timm eva02_small_patch14_336": ("timm EVA-02", from_timm("eva02_small_patch14_336")),
    "timm eva02_base_patch14_224": ("timm EVA-02 large", from_timm("eva02_base_patch14_224")),
    "timm eva02_base_patch16_clip_224": ("timm EVA-02 large", from_timm("eva02_base_patch16_clip_224")),
    "timm eva02_large_patch14_448": ("timm EVA-02 large", from_timm("eva02_large_patch14_448")),
    "HF ViT-B/16": ("Hugging Face ViT", from_transformers("ViTForImageClassification", "ViTConfig", *B)),
    "HF ViT-L/16": ("Hugging Face ViT", from_transformers("ViTModel", "ViTConfig", *L)),
    "HF ViT-H/14": ("Hugging Face ViT", from_transformers("ViTModel", "ViTConfig", *H, patch_size=14)),
    "HF DeiT-B/16 distilled": ("Hugging Face ViT", from_transformers("DeiTModel", "DeiTConfig", *B)),
    "HF ViT-MAE-L/16": ("Hugging Face ViT", from_transformers("ViTMAEModel", "ViTMAEConfig", *L, mask_ratio=0.0)),
    "HF ViT-MSN-B/16": ("Hugging Face ViT", from_transformers("ViTMSNModel", "ViTMSNConfig", *B)),
    "HF I-JEPA-H/14": ("Hugging Face ViT", from_transformers("IJepaModel", "IJepaConfig", *H, patch_size=14)),
    "HF DINOv2-S/14": ("Hugging Face DINOv2", from_transformers(*DINOV2, 384, 12, 6, None, **AT_518)),
    "HF DINOv2-L/14 registers": ("Hugging Face DINOv2", from_transformers(*DINOV2_REG, 1024, 24, 16, None, **AT_518)),
    "HF DINOv2-g/14": (
        "Hugging Face DINOv2",
        from_transformers(*DINOV2, 1536, 40, 24, None, use_swiglu_ffn=True, **AT_518),
    ),
    "HF DINOv3-S/16": ("Hugging Face DINOv3", dinov3(384, 12, 6, 1536)),
    "HF DINOv3-S+/16": ("Hugging Face DINOv3", dinov3(384, 12, 6, 1536, **SWIGLU)),
    "HF DINOv3-B/16": ("Hugging Face DINOv3", dinov3(*B)),
    "HF DINOv3-L/16": ("Hugging Face DINOv3", dinov3(*L)),
    "HF DINOv3-H+/16": ("Hugging Face DINOv3", dinov3(1280, 32, 20, 5120, **SWIGLU)),
    "HF CLIP-B/32": ("Hugging Face CLIP", from_transformers("CLIPVisionModel", "CLIPVisionConfig", *B)),
    "HF CLIP-L/14 projection": (
        "Hugging Face CLIP",
        from_transformers("CLIPVisionModelWithProjection", "CLIPVisionConfig", *L, patch_size=14, projection_dim=768),
    ),
    "HF SigLIP-B/16": ("Hugging Face CLIP", from_transformers("SiglipVisionModel", "SiglipVisionConfig", *B)),
    "HF SigLIP-So400m/14": (
        "Hugging Face CLIP",
        from_transformers("SiglipVisionModel", "SiglipVisionConfig", 1152, 27, 16, 4304, patch_size=14, image_size=384),
    ),
    "torchvision vit_b_16": ("torchvision", from_torchvision("vit_b_16")),
    "torchvision vit_l_16": ("torchvision", from_torchvision("vit_l_16")),
    "vit-pytorch ViT-B/16": ("vit-pytorch", lambda: vit_pytorch.ViT(**B16)),
    "vit-pytorch ViT-B/16 mean": ("vit-pytorch", lambda: vit_pytorch.ViT(**B16, pool="mean")),
    "vit-pytorch SimpleViT-B/16": ("vit-pytorch SimpleViT", lambda: vit_pytorch.SimpleViT(**B16)),
    "OpenCLIP ViT-B-32": ("OpenCLIP", from_open_clip("ViT-B-32")),
    "OpenCLIP ViT-B-32-quickgelu": ("OpenCLIP", from_open_clip("ViT-B-32-quickgelu")),
    "OpenCLIP ViT-L-14": ("OpenCLIP", from_open_clip("ViT-L-14")),
    "zetascale MegaVit (its arithmetic)": ("zetascale", lambda: zetascale.MegaVit(**MEGA_VIT)),
}
