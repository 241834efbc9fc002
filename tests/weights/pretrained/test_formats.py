"""A checkpoint is read as what it is, whichever layouts have some names in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT
from vit_pytorch import SimpleViT, ViT

from megavit.errors import BundleError, MegavitError
from megavit.weights.pretrained.formats import FORMATS, detect_format
from megavit.weights.pretrained.load_checkpoint import load_checkpoint
from megavit.weights.pretrained.mappings.dinov2 import DINOV2
from megavit.weights.pretrained.mappings.dinov3 import DINOV3
from megavit.weights.pretrained.mappings.key_mapping import check_shapes, their_shapes
from tests.parity import test_big_vision, test_dino, test_zeta

TIMM: dict[str, Any] = {"img_size": 24, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 1}
EVA02: dict[str, Any] = {"mlp_ratio": 2.0, "swiglu_mlp": True, "use_rot_pos_emb": True, "ref_feat_shape": (16, 16)}
PATCHES: dict[str, Any] = {"image_size": 24, "patch_size": 8, "num_classes": 5, "mlp_dim": 80}
VIT_PYTORCH: dict[str, Any] = PATCHES | {"dim": 48, "depth": 1, "heads": 2}
TORCHVISION: dict[str, Any] = PATCHES | {"num_layers": 1, "num_heads": 1, "hidden_dim": 64}
BIG_VISION = test_big_vision.SIZES | {"count": 9}
CHECKPOINTS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "timm": lambda: TimmViT(**TIMM).state_dict(),
    "timm's EVA-02": lambda: Eva(**TIMM, **EVA02).state_dict(),
    "timm's EVA-02, large": lambda: Eva(**TIMM, **EVA02, qkv_fused=False, scale_mlp=True).state_dict(),
    "torchvision": lambda: TorchvisionViT(**TORCHVISION).state_dict(),
    "vit-pytorch": lambda: ViT(**VIT_PYTORCH).state_dict(),
    "vit-pytorch's SimpleViT": lambda: SimpleViT(**VIT_PYTORCH).state_dict(),
    "zeta": lambda: test_zeta.weights(**test_zeta.SIZES | {"image_size": (24, 24), "patch_size": (8, 8)}),
    "DINOv2": lambda: test_dino.weights(DINOV2, **test_dino.SIZES | {"grid": (3, 3), "patch": (8, 8)}),
    "DINOv3": lambda: test_dino.weights(DINOV3, **test_dino.SIZES | {"patch": (8, 8)}),
    "big_vision": lambda: test_big_vision.weights("cls", **BIG_VISION),
}
EVERY = pytest.mark.parametrize("layout", CHECKPOINTS)


@EVERY
def test_a_checkpoint_is_told_by_its_names(layout: str) -> None:
    assert [one for one in FORMATS if one.name == layout] == [detect_format(list(CHECKPOINTS[layout]()))]


@EVERY
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_of_it_is_read_without_a_word_more(layout: str, prefix: str, tmp_path: Path) -> None:
    tensors = {f"{prefix}{name}": tensor.contiguous() for name, tensor in CHECKPOINTS[layout]().items()}
    if prefix:
        torch.save({"epoch": 3, "state_dict": tensors}, file := tmp_path / "w.pth")
    else:
        save_file(tensors, file := tmp_path / "w.safetensors")
    known = {"image_size": 24} if layout == "vit-pytorch's SimpleViT" else {}
    read = load_checkpoint(file, known)
    assert (read.format, read.left_out) == (layout, ())
    assert read.config.patch_hw == (8, 8)
    assert layout == "DINOv3" or read.config.image_hw == (24, 24)


@EVERY
def test_a_tensor_more_or_less_is_named(layout: str, tmp_path: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in CHECKPOINTS[layout]().items()}
    known = {"image_size": 24} if layout == "vit-pytorch's SimpleViT" else {}
    save_file(tensors | {"extra.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(BundleError, match=r"extra\.weight: is not part of this model"):
        load_checkpoint(tmp_path / "more.safetensors", known)
    unlucky = next(
        name for name in sorted(tensors) if name.endswith(("norm/bias", "norm.bias", "ln.bias", "head.bias"))
    )
    del tensors[unlucky]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(BundleError, match=f"{unlucky}: is missing"):
        load_checkpoint(tmp_path / "less.safetensors", known)


@EVERY
@given(data=st.data())
def test_a_tensor_of_any_other_shape_is_a_plain_error_or_another_model(layout: str, data: st.DataObject) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in CHECKPOINTS[layout]().items()}
    peer = next(one for one in FORMATS if one.name == layout)
    name = data.draw(st.sampled_from(sorted(shapes)))
    shapes[name] = data.draw(st.lists(st.integers(0, 9), max_size=4).map(tuple))
    known = {"image_size": 24, "patch_size": 8} if data.draw(st.booleans()) else {}
    try:
        config = peer.config(shapes, known)
        check_shapes(peer.key_rules(config), shapes, "here")
    except MegavitError:
        return
    assert their_shapes(peer.key_rules(config)) == shapes
