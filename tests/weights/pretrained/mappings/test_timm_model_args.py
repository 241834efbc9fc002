"""Designs of ours that timm has under another name: written for it, plain timm loads them and answers alike."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.errors import BundleError
from megavit.model.vit import MegaVit
from megavit.weights.pretrained import save_checkpoint
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained
from megavit.weights.pretrained.save_checkpoint import save_pretrained
from megavit.weights.pretrained.to_bundle import build_model

SIZES: dict[str, Any] = {
    "image_size": (16, 24), "patch_size": 8, "num_classes": 3, "dim": 32, "depth": 2, "heads": 4, "dim_head": 8,
    "mlp_dim": 50,
}  # fmt: skip
ROTARY = replace(PLAIN_VIT, positions="rope_grid")
DINOV3 = replace(PLAIN_VIT, positions="rope", norm_eps=1e-5)
EVA02 = replace(PLAIN_VIT, positions="learned_rope", mlp="swiglu")
PERCEPTION = replace(
    PLAIN_VIT, positions="learned_rope_native", registers=1, prefix_positions="all", pre_norm=True, norm_eps=1e-5,
    pool_heads=2, pool_prefix=True,
)  # fmt: skip
DESIGNS: dict[str, dict[str, Any]] = {
    "our own": {"design": Design()},
    "our own, mean": {"design": Design(), "pool": "mean"},
    "our own, pooled by attention": {"design": Design(), "pool": "map"},
    "our own, registers": {"design": Design(registers=4)},
    "our own, registers with positions": {"design": Design(registers=4, prefix_positions="all")},
    "our own, registers and mean": {"design": Design(registers=4), "pool": "mean"},
    "our own, every bias": {"design": Design(qkv_bias=True, norm_bias=True)},
    "our own, RMSNorm": {"design": Design(norm="rms"), "pool": "mean"},
    "our own, norm after pooling": {"design": Design(final_norm="pooled", mlp="quick_gelu"), "pool": "mean"},
    "our own, norm before": {"design": Design(pre_norm=True)},
    "our own, no head": {"design": Design(), "num_classes": 0},
    "our own, gray": {"design": Design(), "channels": 1},
    "serial, no biases": {"design": Design(block="serial")},
    "serial, RMSNorm": {"design": Design(block="serial", norm="rms", qk_norm=False)},
    "serial, norms within": {"design": replace(PLAIN_VIT, attention_out_norm=True, mlp_out_norm=True, norm_eps=1e-5)},
    "rotary": {"design": ROTARY, "pool": "mean"},
    "rotary, norms of queries and keys": {"design": replace(ROTARY, qk_norm=True, norm_bias=False), "pool": "mean"},
    "rotary, registers": {"design": replace(ROTARY, registers=3, layer_scale=0.1), "pool": "mean"},
    "rotary, class token": {"design": replace(ROTARY, registers=2, qkv_bias=False)},
    "rotary, gated": {"design": replace(ROTARY, mlp="swiglu", mlp_out_norm=True), "pool": "mean"},
    "rotary, norms within": {"design": replace(ROTARY, attention_out_norm=True, final_norm="pooled"), "pool": "mean"},
    "rotary, norm before": {"design": replace(ROTARY, pre_norm=True, norm_eps=1e-5), "pool": "mean"},
    "DINOv3": {"design": replace(DINOV3, registers=4)},
    "DINOv3, mean": {"design": replace(DINOV3, registers=5, mlp="swiglu"), "pool": "mean"},
    "DINOv3, nothing before the patches": {"design": replace(DINOV3, norm_eps=1e-6), "pool": "mean"},
    "rotary, pooled by attention": {"design": replace(ROTARY, registers=1, pool_prefix=True), "pool": "map"},
    "Perception Encoder": {"design": PERCEPTION, "pool": "map"},
    "Perception Encoder, patches alone": {"design": replace(PERCEPTION, registers=0), "pool": "map"},
    "Perception Encoder, no places": {
        "design": replace(PERCEPTION, registers=2, prefix_positions="none"), "pool": "map",
    },
    "serial, pooled over all": {"design": replace(PLAIN_VIT, registers=1, pool_prefix=True), "pool": "map"},
    "EVA-02": {"design": replace(EVA02, prefix_positions="all")},
    "EVA-02, large": {"design": replace(EVA02, mlp_out_norm=True, registers=1, prefix_positions="all"), "pool": "mean"},
}  # fmt: skip


def source(**changes: Any) -> PretrainedModel:
    """A model with every weight away from its initial value, but for what timm has not: it then says so."""
    config = ViTConfig(**SIZES | changes)
    torch.manual_seed(0)
    model: Any = MegaVit.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # After a norm of the tokens, a bias of the patches is none of theirs.
            if not (config.design.pre_norm and name == "patch_embedding.projection.bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
        if config.design.positions == "learned_rope" and config.design.qkv_bias:
            for layer in model.transformer.layers:
                layer.attention.to_qkv.bias[config.dim : 2 * config.dim] = 0
        if config.design.layer_scale is not None and config.design.block == "parallel":
            for layer in model.transformer.layers:
                layer.mlp_scale.factor.copy_(layer.attention_scale.factor)
    return PretrainedModel(
        name="ours", config=config, tensors=dict(model.state_dict()), preprocessing=None, labels=("a", "b", "c")
    )


def assert_timm_answers_alike(ours: PretrainedModel, folder: Path) -> None:
    theirs: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = ours.config
    images = torch.randn(2, config.channels, *config.image_hw, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), build_model(ours)(images), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            build_model(load_pretrained(str(folder)))(images), theirs(images), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", DESIGNS)
def test_plain_timm_loads_it_and_answers_alike(tmp_path: Path, name: str) -> None:
    ours = source(**DESIGNS[name])
    save_pretrained("timm", ours, tmp_path / "out")
    assert_timm_answers_alike(ours, tmp_path / "out")


@st.composite
def any_design(draw: st.DrawFn) -> dict[str, Any]:
    """A design of parts that timm has in one place or another, though not all of them together."""
    pool = draw(st.sampled_from(["cls", "mean", "cls_mean", "map"]))
    design = Design(
        block=draw(st.sampled_from(["parallel", "serial"])),
        qk_norm=draw(st.booleans()),
        qkv_bias=draw(st.booleans()),
        norm=draw(st.sampled_from(["layer", "layer", "rms"])),
        norm_bias=draw(st.booleans()),
        norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
        pre_norm=draw(st.booleans()),
        final_norm="tokens" if pool == "cls_mean" else draw(st.sampled_from(["tokens", "pooled"])),
        mlp=draw(st.sampled_from(["gelu", "gelu", "quick_gelu", "swiglu"])),
        attention_out_norm=draw(st.booleans()),
        mlp_out_norm=draw(st.booleans()),
        positions=draw(st.sampled_from(["learned", "rope", "rope_grid", "learned_rope", "learned_rope_native"])),
        prefix_positions=draw(st.sampled_from(["none", "class", "all"])),
        registers=draw(st.integers(0, 2)),
        pool_heads=draw(st.sampled_from([None, None, 2])),
        pool_prefix=draw(st.booleans()),
        layer_scale=draw(st.sampled_from([None, 0.1])),
    )
    return {"design": design, "pool": pool, "depth": 1}


@given(changes=any_design())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_design_is_answered_alike_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    ours, out = source(**changes), tmp_path_factory.mktemp("model") / "out"
    try:
        save_pretrained("timm", ours, out)
    except BundleError as error:
        assert "do not support this model" in str(error)
        assert not out.exists()
    else:
        assert_timm_answers_alike(ours, out)


@pytest.mark.parametrize("positions", ["rope", "rope_grid", "learned_rope"])
def test_rotary_layers_with_scales_are_answered_alike(tmp_path: Path, positions: Any) -> None:
    design = replace(PLAIN_VIT, positions=positions, layer_scale=0.1, norm_eps=1e-6, prefix_positions="all")
    ours = source(design=design, pool="cls", depth=2)
    save_pretrained("timm", ours, tmp_path / "out")
    assert_timm_answers_alike(ours, tmp_path / "out")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gated, pooled by attention": (
        {"design": replace(PLAIN_VIT, mlp="swiglu"), "pool": "map"},
        "pool: 'map', expected 'cls' or 'mean'",
    ),
    "another width of heads": ({"design": PLAIN_VIT, "dim_head": 16}, "dim_head: 16, expected 8"),
    "an epsilon that timm has not": ({"design": replace(PLAIN_VIT, norm_eps=1e-3)}, "1e-06 or 1e-05"),
    "batch norms": ({"design": replace(PLAIN_VIT, norm="batch")}, "norm: 'batch', expected 'layer' or 'rms'"),
    "rotary in parallel blocks": ({"design": Design(positions="rope")}, "positions 'rope' and block 'parallel'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_timm_has_not_is_refused_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    changes, words = REFUSED[name]
    with pytest.raises(BundleError, match=words):
        save_pretrained("timm", source(**changes), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_timm_cannot_hold_are_refused_by_name(tmp_path: Path) -> None:
    ours = source(design=Design(layer_scale=0.1))
    ours.tensors["transformer.layers.1.mlp_scale.factor"][0] += 1
    with pytest.raises(BundleError, match=r"shares one blocks\.1\.ls\.gamma among several tensors"):
        save_pretrained("timm", ours, tmp_path / "out")
    ours = source(design=EVA02)
    ours.tensors["transformer.layers.1.attention.to_qkv.bias"][40] += 1
    with pytest.raises(BundleError, match=r"layers\.1\.attention\.to_qkv\.bias cannot be written"):
        save_pretrained("timm", ours, tmp_path / "out")


@pytest.mark.parametrize("library", ["timm", "huggingface"])
def test_a_model_with_other_outputs_is_not_left_behind(
    tmp_path: Path, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = save_checkpoint.WRITERS[library]

    def wrong(given: PretrainedModel) -> Any:
        files, tensors = write(given)
        return files, {
            name: tensor + ("norm2.bias" in name or "after.bias" in name) for name, tensor in tensors.items()
        }

    monkeypatch.setitem(save_checkpoint.WRITERS, library, wrong)
    with pytest.raises(BundleError, match="has other outputs, so it was deleted"):
        save_pretrained(library, source(design=PLAIN_VIT), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
