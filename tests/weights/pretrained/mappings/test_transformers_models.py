"""transformers' models: read exactly, by their own defaults, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import vit_pytorch.vit_detpool
from safetensors.torch import load_file, save_file

from benchmarks.conversion.compare import EXACT, REFUSED
from benchmarks.conversion.transformers_models import build_small, check_class
from megavit.errors import BundleError
from megavit.weights.pretrained.pretrained import load_pretrained

READ = [
    ("vit", "ViTForImageClassification"),
    ("vit_mae", "ViTMAEForPreTraining"),
    ("vit_msn", "ViTMSNForImageClassification"),
    ("deit", "DeiTForImageClassification"),
    ("ijepa", "IJepaForImageClassification"),
    ("dinov2", "Dinov2ForImageClassification"),
    ("dinov2_with_registers", "Dinov2WithRegistersModel"),
    ("dinov2_with_registers", "Dinov2WithRegistersForImageClassification"),
    ("dinov3_vit", "DINOv3ViTModel"),
    ("clip", "CLIPModel"),
    ("metaclip_2", "MetaClip2Model"),
    ("chinese_clip", "ChineseCLIPModel"),
    ("altclip", "AltCLIPModel"),
    ("siglip", "SiglipForImageClassification"),
]
NOT_READ = [
    ("beit", "BeitModel", "learned biases of relative positions"),
    ("swin", "SwinModel", "several resolutions"),
    ("siglip2", "Siglip2Model", "any number of patches"),
    ("clipseg", "CLIPSegModel", "for every pixel"),
    ("xclip", "XCLIPModel", "frames of a video"),
    ("yolos", "YolosModel", "boxes or masks"),
    ("pixio", "PixioModel", "model_type 'pixio', which megavit does not support; supported are"),
    ("tipsv2_vision_model", "Tipsv2VisionModel", "model_type 'tipsv2_vision_model'"),
]


@pytest.fixture(autouse=True)
def quiet() -> None:
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.parametrize(("model_type", "name"), READ)
def test_it_answers_as_the_class_does(model_type: str, name: str, tmp_path: Path) -> None:
    row = check_class(model_type, name, tmp_path)
    assert row.verdict == EXACT, row


@pytest.mark.parametrize(("model_type", "name", "reason"), NOT_READ)
def test_what_is_another_model_is_refused_by_name(model_type: str, name: str, reason: str, tmp_path: Path) -> None:
    row = check_class(model_type, name, tmp_path)
    assert row.verdict == REFUSED, row
    assert reason in row.reported


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("metaclip_2", "MetaClip2Model"), ("chinese_clip", "ChineseCLIPModel"), ("altclip", "AltCLIPModel")],
)
def test_what_vision_settings_leave_out_is_what_the_class_has(model_type: str, name: str, tmp_path: Path) -> None:
    build_small(model_type, name).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    for word in ("hidden_act", "layer_norm_eps"):
        del settings["vision_config"][word]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    model: Any = getattr(transformers, name).from_pretrained(tmp_path)
    config = load_pretrained(str(tmp_path)).config
    assert (config.design.mlp, config.design.norm_eps) == ("quick_gelu", model.config.vision_config.layer_norm_eps)


def test_layers_that_are_missing_at_the_end_are_named(tmp_path: Path) -> None:
    build_small("vit", "ViTForImageClassification").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layer.1." not in name and "layers.1." not in name}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(BundleError, match=r"encoder\.layer\.1\.layernorm_before\.weight: is missing"):
        load_pretrained(str(tmp_path))


def test_timms_models_in_transformers_wrapper_are_timms(tmp_path: Path) -> None:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
    settings: dict[str, Any] = {"model_args": sizes | {"global_pool": "token"}, "num_labels": 5}
    config = transformers.TimmWrapperConfig(architecture="vit_tiny_patch16_224", **settings)
    theirs: Any = transformers.TimmWrapperForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    source = load_pretrained(str(tmp_path))
    assert (source.format, source.config.num_classes) == ("timm", 5)


def test_another_class_token_is_refused_in_a_sentence(tmp_path: Path) -> None:
    model = vit_pytorch.vit_detpool.ViTDetPool(
        image_size=32, patch_size=8, num_classes=5, dim=64, depth=1, heads=1, mlp_dim=64
    )
    torch.save(model.state_dict(), tmp_path / "a.pth")
    with pytest.raises(BundleError, match=r"cls_token has shape \(64,\)"):
        load_pretrained(str(tmp_path / "a.pth"))
