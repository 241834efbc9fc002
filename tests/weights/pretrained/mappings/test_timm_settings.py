"""timm's real architectures as its own registry builds them, on no device: what their names and shapes say of them."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

from megavit.errors import BundleError
from megavit.weights.pretrained.formats import detect_format
from megavit.weights.pretrained.mappings.key_mapping import check_shapes
from megavit.weights.pretrained.mappings.timm_architectures import ARCHITECTURES
from megavit.weights.pretrained.mappings.timm_settings import DEFAULTS, SUPPORTED_VALUE, read_timm_settings
from megavit.weights.pretrained.pretrained import load_pretrained

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
    peer = detect_format(list(shapes)) or pytest.fail(f"{name} is of no layout")
    config = peer.config(shapes, read_timm_settings({"architecture": name, "global_pool": model.global_pool}))
    check_shapes(peer.key_rules(config), shapes, name)
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
        ("vit_base_patch16_rpn_224", "block_fn: 'ResPostBlock', norms after the branches"),
        ("vit_small_patch16_18x2_224", "block_fn: 'ParallelThingsBlock', several parallel attentions and MLPs"),
        ("vit_dpwee_patch16_reg1_gap_256", "block_fn: 'DiffParallelScalingBlock', attention as the difference of two"),
        ("vit_dwee_patch16_reg1_gap_256", "attn_layer: 'diff', another attention"),
        ("eva02_enormous_patch14_clip_224", "use_post_norm: True, norms after the branches"),
        ("vit_pe_core_gigantic_patch14_448", "rope_grid_offset: 0.0, expected 1.0"),
        ("vit_pe_spatial_base_patch16_512", "use_post_transformer_norm: False, no norm after the layers"),
        ("vit_small_patch16_rope_mixed_224", "rope_type: 'mixed'"),
        ("vit_base_patch16_sapiens2", "attn_only_layer_scale: True, a scale of only the attention"),
        ("aimv2_large_patch14_224", "embed_norm_layer: 'rmsnorm', a norm of the patches"),
        ("vit_intern300m_patch14_448", "final_norm: False, no norm after the layers"),
        ("deit_tiny_distilled_patch16_224", "it has two classifiers"),
        ("beit_base_patch16_224", "it adds relative positions"),
        ("vit_relpos_base_patch16_cls_224", "it adds relative positions"),
        ("samvit_base_patch16", "its attention is within windows"),
        ("vit_tiny_r_s16_p8_224", "it has convolutions before its patches"),
        ("vit_base_resnet50d_224", "it has convolutions before its patches"),
        ("vit_base_mci_224", "it has convolutions before its patches"),
        ("naflexvit_base_patch16_gap", "its patches and positions are stored differently"),
    ],
)
def test_what_the_model_cannot_be_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(BundleError, match=re.escape(words)):
        read_timm_settings({"architecture": name})


def test_a_pooling_that_megavit_lacks_is_refused() -> None:
    with pytest.raises(BundleError, match="global_pool: 'avgmax', expected one of token, avg, map"):
        read_timm_settings({"architecture": "vit_tiny_patch16_224", "global_pool": "avgmax"})


PLAIN, ROTARY = "vit_tiny_patch16_224", "vit_medium_patch16_rope_reg1_gap_256"
TOLD: list[tuple[str, dict[str, Any], str]] = [
    (PLAIN, {"pool_include_prefix": True, "global_pool": "avg"}, "pool_include_prefix: True"),
    (PLAIN, {"act_layer": "relu"}, "act_layer: 'relu', expected one of gelu, gelu_tanh"),
    (PLAIN, {"norm_layer": "batchnorm2d"}, "norm_layer: 'batchnorm2d', expected one of layer, rms"),
    (PLAIN, {"attn_layer": "diff"}, "attn_layer: 'diff', another attention"),
    (PLAIN, {"pos_embed": "none"}, "pos_embed: 'none', other positions"),
    (PLAIN, {"dynamic_img_pad": True}, "dynamic_img_pad: True, images padded to whole patches"),
    (PLAIN, {"use_rot_pos_emb": True}, "use_rot_pos_emb: True, which is unknown"),
    (PLAIN, {"use_naflex": True}, "use_naflex: True, patches and positions stored differently"),
    ("some_vit", {"pool_include_prefix": True}, "pool_include_prefix: True, which is unknown"),
    (PLAIN, {"swiglu_ratio": 3}, "swiglu_ratio: 3, which is unknown"),
    ("vit_giant_patch14_dinov2", {"act_layer": "gelu"}, "act_layer: 'gelu', expected 'silu' for a gated MLP"),
    ("vit_giant_patch14_dinov2", {"global_pool": "map"}, "global_pool: 'map' with a gated MLP"),
    ("eva02_tiny_patch14_224", {"use_rot_pos_emb": False, "use_abs_pos_emb": False}, "no positions at all"),
    (ROTARY, {"rope_temperature": 100.0}, "rope_temperature: 100.0, expected 10000.0"),
    (ROTARY, {"rope_type": "mixed"}, "rope_type: 'mixed', expected 'cat'"),
    (ROTARY, {"rope_rotate_half": True}, "rope_rotate_half: True, expected False"),
    (ROTARY, {"ref_feat_shape": None}, "ref_feat_shape: None, expected (16, 16)"),
    (ROTARY, {"ref_feat_shape": 24}, "ref_feat_shape: 24, expected (16, 16)"),
    (ROTARY, {"rope_grid_indexing": "xy"}, "rope_grid_indexing: 'xy', expected 'ij'"),
    (ROTARY, {"use_post_norm": True}, "use_post_norm: True, norms after the branches"),
    (ROTARY, {"num_kv_heads": 4}, "num_kv_heads: 4, fewer heads of keys than of queries"),
    (ROTARY, {"act_layer": "gelu"}, "act_layer: 'gelu', which is unknown"),
    ("some_vit", {"block_size": 3}, "block_size: 3, which is unknown for an architecture of that name"),
]


@pytest.mark.parametrize(("name", "arguments", "words"), TOLD)
def test_arguments_that_make_another_model_are_refused_by_name(name: str, arguments: Any, words: str) -> None:
    with pytest.raises(BundleError, match=re.escape(words)):
        read_timm_settings({"architecture": name, "model_args": arguments})


def test_every_argument_that_is_refused_is_in_one_error() -> None:
    arguments = {"rope_temperature": 3.0, "use_post_norm": True, "later": 1, "drop_path_rate": 0.1}
    with pytest.raises(BundleError) as caught:
        read_timm_settings({"architecture": ROTARY, "model_args": arguments})
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        "later",
        "use_post_norm",
        "rope_temperature",
    ]


def test_arguments_go_before_what_the_architecture_is() -> None:
    reported = {"num_heads": 2, "depth": 4, "act_layer": "quick_gelu", "global_pool": "avg", "norm_layer": "rmsnorm"}
    facts = read_timm_settings({"architecture": "vit_base_patch16_clip_224", "model_args": reported | {"img_size": 64}})
    assert {name: facts[name] for name in ("heads", "depth", "mlp", "pool", "norm", "norm_eps", "image_size")} == {
        "heads": 2, "depth": 4, "mlp": "quick_gelu", "pool": "mean", "norm": "rms", "norm_eps": 1e-6,
        "image_size": (64, 64),
    }  # fmt: skip
    # A norm before the first layer is CLIP's, but its epsilon is that of the architecture.
    assert read_timm_settings({"architecture": PLAIN, "model_args": {"pre_norm": True}})["norm_eps"] == 1e-6


def as_timm_builds(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """The class of an architecture, and what its function gives it."""
    seen: dict[str, Any] = {}

    def build(model: Any, _variant: str, _pretrained: bool, **arguments: Any) -> None:
        seen.update(arguments, model=model.__name__)

    function = timm.model_entrypoint(name)
    monkeypatch.setattr(sys.modules[function.__module__], "build_model_with_cfg", build)
    function()
    monkeypatch.undo()
    return seen.pop("model"), seen


def in_our_words(name: str, value: Any) -> dict[str, Any]:
    """An argument of timm's as `timm_architectures` has it."""
    word = getattr(value, "func", value)
    word = getattr(word, "__name__", word)
    if name == "norm_layer":
        eps = getattr(value, "keywords", {}).get("eps", 1e-6)
        return {"norm": {"layernorm": "layer", "rmsnorm": "rms"}[word.lower()], "norm_eps": eps}
    if name == "mlp_layer":
        return {name: "SwiGLUPacked" if word == "GluMlp" else word}
    if name == "act_layer" or name == "embed_norm_layer":
        return {name: word.lower()}
    return {name: list(word) if isinstance(word, tuple) else word}


def test_every_architecture_is_what_timm_builds_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = ("vision_transformer", "eva", "deit")
    names = {name for module in modules for name in timm.list_models(module=module) if "distilled" not in name}
    assert names == ARCHITECTURES.keys()
    kept = {"depth", "num_heads", *(name for one in ARCHITECTURES.values() for name in one.arguments)}
    for name in sorted(names):
        model, arguments = as_timm_builds(name, monkeypatch)
        theirs: dict[str, Any] = {}
        for argument, value in arguments.items():
            theirs |= in_our_words(argument, value)
        usual = DEFAULTS[model] | {argument: one for argument, (one, _) in SUPPORTED_VALUE.items()}
        theirs = {argument: value for argument, value in theirs.items() if argument in kept}
        ours = ARCHITECTURES[name]
        assert (ours.model, usual | ours.arguments) == (model, usual | theirs), name


def saved(model: Any, folder: Path) -> Path:
    save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def small(name: str, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, **arguments)


@pytest.mark.parametrize("name", [PLAIN, ROTARY, "eva02_tiny_patch14_224", "vit_pwee_patch16_reg1_gap_256"])
def test_layers_that_are_missing_at_the_end_are_named(name: str, tmp_path: Path) -> None:
    folder = saved(small(name, depth=3, embed_dim=64, num_heads=2), tmp_path / "model")
    tensors = {key: tensor for key, tensor in load_file(folder / "model.safetensors").items() if "blocks.2." not in key}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BundleError, match=r"blocks\.2\.\S+: is missing"):
        load_pretrained(str(folder))


@pytest.mark.parametrize(("name", "heads"), [("test_vit", 2), ("vit_so400m_patch14_siglip_224", 16)])
def test_heads_are_those_of_the_architecture_whatever_the_width(name: str, heads: int, tmp_path: Path) -> None:
    folder = saved(small(name, depth=2, embed_dim=heads * 16), tmp_path / "model")
    source = load_pretrained(str(folder))
    assert source.config.heads == heads
    assert not [sentence for sentence in source.notes if "assumed" in sentence]


def test_an_architecture_that_is_not_known_has_its_assumptions_said(tmp_path: Path) -> None:
    folder = saved(small(PLAIN, depth=1, embed_dim=64, num_heads=2), tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    del settings["model_args"]["num_heads"]
    (folder / "config.json").write_text(json.dumps(settings | {"architecture": "vit_of_tomorrow"}))
    assert "assumed, as the files do not specify it: heads 1, activation gelu, eps 1e-06" in " ".join(
        load_pretrained(str(folder)).notes
    )


@pytest.mark.parametrize(
    ("name", "reported"),
    [(PLAIN, ROTARY), (ROTARY, PLAIN), (PLAIN, "vit_pwee_patch16_reg1_gap_256"), (ROTARY, "eva02_tiny_patch14_224")],
)
def test_settings_of_another_architecture_are_one_error(name: str, reported: str, tmp_path: Path) -> None:
    folder = saved(small(name, depth=1, embed_dim=64, num_heads=2), tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"architecture": reported, "model_args": {"depth": 1}}))
    with pytest.raises(BundleError, match="it is from another model"):
        load_pretrained(str(folder))


def test_positions_of_two_readings_are_refused(tmp_path: Path) -> None:
    """9 positions: of 3 × 3 patches, or of 2 × 2 and five tokens before them."""
    model = small(
        "vit_small_patch14_reg4_dinov2", depth=1, embed_dim=64, num_heads=1, img_size=28, no_embed_class=False
    )
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(BundleError, match=r"9 positions, .* megavit convert --image-size"):
        load_pretrained(str(tmp_path / "model.safetensors"))
    read = load_pretrained(str(tmp_path / "model.safetensors"), {"image_size": 28})
    assert read.config.design.prefix_positions == "all"


def test_a_file_without_a_name_has_no_facts() -> None:
    assert read_timm_settings({}) == {}
