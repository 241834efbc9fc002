"""Weights that come from another library go back to it equal to the bit, and no tensor goes unnoticed."""

from typing import Any

import pytest
import timm
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.parity.stages import FAMILIES, file_tensors, perturb_weights, table_tensors
from megavit.config.vit import ViTConfig
from megavit.errors import BundleError, MegavitError
from megavit.model.statistics import Shape
from megavit.model.vit import MegaVit
from megavit.weights.pretrained.mappings.hf_vit import HF_VIT, file_name
from megavit.weights.pretrained.mappings.key_mapping import (
    ResolvedRule,
    check_shapes,
    rules_for_file,
    to_ours,
    to_theirs,
)
from tests.helpers.peer_models import SMALL

Drawn = tuple[Any, nn.Module, dict[str, Any]]


@st.composite
def sizes_of_hugging_face(draw: st.DrawFn) -> dict[str, Any]:
    heads, patch = draw(st.integers(1, 3)), draw(st.sampled_from([2, 4]))
    return {
        "hidden_size": heads * draw(st.sampled_from([4, 8])),
        "num_hidden_layers": draw(st.integers(1, 2)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(1, 24)),
        "patch_size": patch,
        "image_size": patch * draw(st.integers(1, 3)),
        "num_channels": draw(st.integers(1, 4)),
        "num_labels": draw(st.integers(1, 4)),
        "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-6, 1e-5])),
    }


@st.composite
def hugging_face_vit(draw: st.DrawFn) -> Drawn:
    name = draw(st.sampled_from(["ViT", "DeiT", "IJepa", "ViTMSN"]))
    kind = draw(st.sampled_from(["Model", "ForImageClassification"]))
    drawn = draw(sizes_of_hugging_face()) | {"qkv_bias": draw(st.booleans())}
    if draw(st.booleans()):
        rows, columns = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        drawn["image_size"] = (rows * drawn["patch_size"], columns * drawn["patch_size"])
    return built("Hugging Face ViT", f"{name}{kind}", f"{name}Config", drawn)


@st.composite
def hugging_face_dinov2(draw: st.DrawFn) -> Drawn:
    name = draw(st.sampled_from(["Dinov2", "Dinov2WithRegisters"]))
    drawn = draw(sizes_of_hugging_face())
    drawn |= {"mlp_ratio": draw(st.integers(1, 3)), "use_swiglu_ffn": draw(st.booleans())}
    if name == "Dinov2WithRegisters":
        drawn["num_register_tokens"] = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["Model", "ForImageClassification"]))
    return built("Hugging Face DINOv2", f"{name}{kind}", f"{name}Config", drawn)


@st.composite
def hugging_face_dinov3(draw: st.DrawFn) -> Drawn:
    drawn = draw(sizes_of_hugging_face()) | {"num_register_tokens": draw(st.integers(0, 3))}
    drawn["query_bias"] = drawn["value_bias"] = draw(st.booleans())
    if draw(st.booleans()):
        drawn |= {"use_gated_mlp": True, "hidden_act": "silu"}
    return built("Hugging Face DINOv3", "DINOv3ViTModel", "DINOv3ViTConfig", drawn)


@st.composite
def hugging_face_clip(draw: st.DrawFn) -> Drawn:
    drawn = draw(sizes_of_hugging_face())
    if draw(st.booleans()):
        drawn["vision_use_head"] = draw(st.booleans())
        return built("Hugging Face CLIP", "SiglipVisionModel", "SiglipVisionConfig", drawn)
    drawn["projection_dim"] = draw(st.integers(1, 5))
    drawn["hidden_act"] = draw(st.sampled_from(["quick_gelu", "gelu"]))
    kind = draw(st.sampled_from(["CLIPVisionModel", "CLIPVisionModelWithProjection"]))
    return built("Hugging Face CLIP", kind, "CLIPVisionConfig", drawn)


@st.composite
def timm_dinov3(draw: st.DrawFn) -> Drawn:
    name = draw(st.sampled_from(["", "_plus"])) + "_patch16_dinov3" + draw(st.sampled_from(["", "_qkvb"]))
    heads, pool = draw(st.integers(1, 2)), draw(st.sampled_from(["avg", "token"]))
    model = timm.create_model(
        f"vit_small{name}",
        pretrained=False,
        embed_dim=64 * heads,
        num_heads=heads,
        depth=draw(st.integers(1, 2)),
        mlp_ratio=draw(st.sampled_from([0.25, 0.5])),
        num_reg_tokens=draw(st.integers(1, 3)),
        patch_size=draw(st.sampled_from([2, 4])),
        in_chans=draw(st.integers(1, 4)),
        num_classes=draw(st.integers(0, 3)),
        global_pool=pool,
        use_fc_norm=draw(st.booleans()),
    )
    perturb_weights(model)
    return FAMILIES["timm DINOv3"].peer, model, {"pool": "cls" if pool == "token" else "mean"}


@st.composite
def timm_vit(draw: st.DrawFn) -> Drawn:
    heads, patch = draw(st.integers(1, 2)), draw(st.sampled_from([2, 4]))
    grid = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pools: list[tuple[bool, Any]] = [(True, "token"), (True, "avg"), (False, "avg"), (False, "map")]
    has_class, pool = draw(st.sampled_from(pools))
    size = (grid[0] * patch, grid[1] * patch)
    model = timm.models.VisionTransformer(
        img_size=size,
        patch_size=patch,
        in_chans=draw(st.integers(1, 4)),
        num_classes=draw(st.integers(0, 3)),
        global_pool=pool,
        embed_dim=64 * heads,
        depth=draw(st.integers(1, 2)),
        num_heads=heads,
        mlp_ratio=draw(st.sampled_from([0.25, 0.5])),
        qkv_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        init_values=draw(st.sampled_from([None, 0.1])),
        class_token=has_class,
        no_embed_class=draw(st.booleans()),
        reg_tokens=draw(st.integers(0, 3)),
        pre_norm=draw(st.booleans()),
    )
    perturb_weights(model)
    return (
        FAMILIES["timm ViT"].peer,
        model,
        # Some of these may have norms behind their branches as well, but for what is said.
        {"image_size": size, "pool": {"token": "cls", "avg": "mean"}.get(pool, pool), "block": "serial"},
    )


def built(family: str, model: str, config: str, drawn: dict[str, Any]) -> Drawn:
    theirs = getattr(transformers, model)(getattr(transformers, config)(**drawn))
    perturb_weights(theirs)
    peer: Any = FAMILIES[family].peer
    return peer, theirs, peer.settings(theirs.config.to_dict())


def read(peer: Any, tensors: dict[str, Tensor], known: dict[str, Any]) -> tuple[ViTConfig, list[ResolvedRule]]:
    return read_shapes(peer, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, known)


def read_shapes(peer: Any, shapes: dict[str, Shape], known: dict[str, Any]) -> tuple[ViTConfig, list[ResolvedRule]]:
    config = peer.config(shapes, known)
    rules = peer.key_rules(config)
    check_shapes(rules, shapes, "the test")
    return config, rules_for_file(rules, shapes)


FAMILY = {
    "timm ViT": timm_vit(),
    "timm DINOv3": timm_dinov3(),
    "Hugging Face ViT": hugging_face_vit(),
    "Hugging Face DINOv2": hugging_face_dinov2(),
    "Hugging Face DINOv3": hugging_face_dinov3(),
    "Hugging Face CLIP": hugging_face_clip(),
}


@pytest.mark.parametrize("family", FAMILY)
@settings(max_examples=8)
@given(st.data())
def test_weights_go_back_equal_to_the_bit(family: str, data: st.DataObject) -> None:
    peer, theirs, known = data.draw(FAMILY[family])
    tensors = table_tensors(peer, file_tensors(theirs))
    assert set(peer.signature) <= set(tensors) or peer is FAMILIES["timm ViT"].peer
    config, rules = read(peer, tensors, known)
    state = to_ours(rules, tensors, config)
    MegaVit.from_config(config).load_state_dict(state)
    back = to_theirs(rules, state)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize("family", [name for name in FAMILY if "Hugging Face" in name])
@settings(max_examples=5)
@given(st.data())
def test_written_names_are_read_as_the_same(family: str, data: st.DataObject) -> None:
    peer, theirs, known = data.draw(FAMILY[family])
    tensors = table_tensors(peer, file_tensors(theirs))
    config, _ = read(peer, tensors, known)
    if peer is HF_VIT:
        written = {file_name(name, config): name for name in tensors}
        assert peer.names(written) == written
    assert peer.names(tensors) == {name: name for name in tensors}


@pytest.mark.parametrize("name", SMALL)
def test_every_missing_extra_or_misshapen_tensor_is_noticed(name: str) -> None:
    peer = SMALL[name].family.peer
    one_layer = {"num_hidden_layers": 1} if peer.model_types else {"depth": 1}
    theirs = SMALL[name].make(**one_layer)
    known = dict(SMALL[name].family.file_settings(theirs))
    tensors = table_tensors(peer, file_tensors(theirs))
    whole, _ = read(peer, tensors, known)
    for changed in tensors:
        less = {name: tensor for name, tensor in tensors.items() if name != changed}
        for others in (less, less | {changed: tensors[changed][None]}, less | {changed + "x": tensors[changed]}):
            if fits(peer, others, known):
                # What is left is another whole model, such as one without a head, and is said to be.
                assert read(peer, others, known)[0] != whole, changed


SHAPE = st.lists(st.integers(0, 70), max_size=4).map(tuple)


@pytest.mark.parametrize("name", ["timm DINOv3, SwiGLU", "timm ViT", "DeiT, classes", "DINOv2", "DINOv3", "SigLIP"])
@given(st.data())
def test_a_tensor_of_any_other_shape_is_a_plain_error(name: str, data: st.DataObject) -> None:
    peer: Any = FAMILIES[name].peer if name in FAMILIES else SMALL[name].family.peer
    theirs = timm.models.VisionTransformer(embed_dim=64, depth=1, num_heads=1) if name in FAMILIES else None
    tensors = table_tensors(peer, file_tensors(theirs or SMALL[name].make()))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    changed = data.draw(st.sampled_from(sorted(shapes)))
    shape = data.draw(SHAPE.filter(lambda shape: shape != shapes[changed]))
    with pytest.raises(MegavitError):
        read_shapes(peer, shapes | {changed: shape}, {})


def fits(peer: Any, tensors: dict[str, Tensor], known: dict[str, Any]) -> bool:
    try:
        read(peer, tensors, known)
    except MegavitError:
        return False
    return True


def test_one_error_lists_every_tensor_that_does_not_fit() -> None:
    small = SMALL["DINOv2"]
    theirs, peer = small.make(), small.family.peer
    tensors = table_tensors(peer, file_tensors(theirs))
    _, rules = read(peer, tensors, {})
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    del shapes["layernorm.bias"]
    shapes |= {"layernorm.weight": (7,), "adapter.weight": (3, 4)}
    with pytest.raises(BundleError) as caught:
        check_shapes(rules, shapes, "model.safetensors")
    assert str(caught.value).splitlines() == [
        "the weights in model.safetensors do not fit the model:",
        "  layernorm.bias: is missing",
        "  adapter.weight: is not part of this model",
        "  layernorm.weight: has shape (7,), expected (32,)",
    ]


@pytest.mark.parametrize("place", [True, False])
def test_a_class_token_that_is_not_pooled_by_may_be_there_or_not(place: bool) -> None:
    """What is written without a file to go by has it where it has a position."""
    peer: Any = FAMILIES["timm ViT"].peer
    sizes: dict[str, Any] = {"img_size": 8, "patch_size": 4, "embed_dim": 64, "depth": 1, "num_heads": 1}
    sizes |= {"global_pool": "avg", "no_embed_class": not place}
    one = timm.models.VisionTransformer(class_token=True, reg_tokens=1, **sizes).state_dict()
    other = timm.models.VisionTransformer(class_token=False, reg_tokens=2, **sizes).state_dict()
    known = {"pool": "mean", "image_size": 8}
    (config, rules), (same, _) = read(peer, one, known), read(peer, other, known)
    assert config == same
    assert to_theirs(peer.key_rules(config), to_ours(rules, one, config)).keys() == (one if place else other).keys()


def test_what_a_peer_has_as_zeros_is_not_dropped_in_silence() -> None:
    small = SMALL["CLIP"]
    theirs, peer = small.make(), small.family.peer
    tensors = table_tensors(peer, file_tensors(theirs))
    config, rules = read(peer, tensors, {"heads": 4})
    state = to_ours(rules, tensors, config)
    state["patch_embedding.projection.bias"][0] = 1e-30
    with pytest.raises(BundleError, match=r"patch_embedding\.projection\.bias cannot be written"):
        to_theirs(rules, state)
