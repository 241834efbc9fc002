"""What neither tensors nor settings tell of a model is assumed aloud, in one sentence, and can be said instead."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
import vit_pytorch
from torch import nn

from megavit.errors import BundleError
from megavit.weights.bundle.bundle import read_info
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained
from megavit.weights.pretrained.to_bundle import build_model
from tests.helpers.command_line import run_megavit

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_classes": 3}


def shaken(model: nn.Module) -> nn.Module:
    """The model with every weight away from its initial value."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def bare(path: Path, model: nn.Module) -> str:
    torch.save(model.state_dict(), path)
    return str(path)


def assumed(source: PretrainedModel) -> list[str]:
    return [sentence for sentence in source.notes if sentence.startswith("assumed")]


class QuickGelu(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


def test_a_bare_file_says_what_was_assumed_and_by_which_options_it_is_said(tmp_path: Path) -> None:
    model: Any = timm.create_model("vit_tiny_patch16_224", num_heads=2, **SIZES)
    source = load_pretrained(bare(tmp_path / "a.pth", model))
    assert assumed(source) == [
        "assumed, as the files do not specify it: heads 1, activation gelu, eps 1e-06, pool cls; "
        "if the model has other values, set them with megavit convert: --num-heads --activation --norm-eps --pool"
    ]


def test_what_is_said_is_not_assumed_and_makes_the_model_theirs(tmp_path: Path) -> None:
    theirs: Any = shaken(
        timm.create_model(
            "vit_tiny_patch16_224",
            num_heads=2,
            global_pool="avg",
            fc_norm=False,
            act_layer=QuickGelu,
            norm_layer=lambda width, **_: nn.LayerNorm(width, eps=0.1),
            **SIZES,
        )
    )
    path, images = bare(tmp_path / "a.pth", theirs), torch.randn(2, 3, 32, 32)
    said = load_pretrained(path, {"heads": 2, "mlp": "quick_gelu", "norm_eps": 0.1, "pool": "mean"})
    assert assumed(said) == []
    torch.testing.assert_close(build_model(said)(images), theirs(images), atol=1e-4, rtol=1e-4)
    wrong = build_model(load_pretrained(path))(images)
    assert (wrong - theirs(images)).abs().max() > 0.01


def test_settings_are_not_assumed(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    assert assumed(load_pretrained(str(tmp_path))) == []
    assert "heads 1, activation gelu, eps 1e-12; " in assumed(load_pretrained(str(tmp_path / "model.safetensors")))[0]


def test_what_the_tensors_tell_cannot_be_said_otherwise(tmp_path: Path) -> None:
    model = vit_pytorch.SimpleViT(image_size=32, patch_size=8, num_classes=3, dim=64, depth=1, heads=1, mlp_dim=64)
    path = bare(tmp_path / "a.pth", model)
    assert "patch size 8 × 8, channels 3; " in assumed(load_pretrained(path, {"image_size": 32, "pool": "mean"}))[0]
    with pytest.raises(BundleError, match=r"--pool cls does not fit the tensors, .* SimpleViT model with pool mean"):
        load_pretrained(path, {"image_size": 32, "pool": "cls"})
    other = load_pretrained(path, {"image_size": 32, "patch_size": 4, "channels": 12})
    assert (other.config.patch_hw, other.config.channels) == ((4, 4), 12)


def test_an_activation_cannot_be_said_of_gates(tmp_path: Path) -> None:
    model: Any = timm.create_model("vit_small_patch14_reg4_dinov2", num_heads=2, **SIZES)
    gated: Any = timm.create_model("vit_giant_patch14_reg4_dinov2", num_heads=2, mlp_ratio=2.0, **SIZES)
    assert "activation gelu" in assumed(load_pretrained(bare(tmp_path / "a.pth", model)))[0]
    path = bare(tmp_path / "b.pth", gated)
    assert "activation" not in assumed(load_pretrained(path))[0]
    with pytest.raises(
        BundleError, match=r"--activation gelu does not fit the tensors, .* model with activation swiglu"
    ):
        load_pretrained(path, {"mlp": "gelu"})


def test_the_command_line_takes_them_all(tmp_path: Path) -> None:
    model: Any = timm.create_model("vit_tiny_patch16_224", num_heads=2, **SIZES)
    bare(tmp_path / "a.pth", model)
    reported = run_megavit("convert", "a.pth", "--out", "one", cwd=tmp_path)
    assert "assumed, as the files do not specify it: heads 1" in reported.stderr
    options = ["--num-heads", "2", "--activation", "quick_gelu", "--norm-eps", "1e-5", "--pool", "mean"]
    done = run_megavit("convert", "a.pth", "--out", "two", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "assumed" not in done.stderr
    config = read_info(tmp_path / "two").model
    assert (config.heads, config.pool) == (2, "mean")
    assert (config.design.mlp, config.design.norm_eps) == ("quick_gelu", 1e-5)
