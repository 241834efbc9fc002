"""Other libraries' models and ours with their weights give the same numbers, compared stage by stage.

Not matched, as each library has its own: the values of positions at another size than the model's.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.parity.stages import (
    FAMILIES,
    file_tensors,
    load_our_model,
    our_stages,
    peer_stages,
    perturb_weights,
    table_tensors,
)
from megavit.model.vit import MegaVit
from megavit.weights.pretrained.mappings.key_mapping import to_theirs
from tests.helpers.parity import load_ours
from tests.helpers.peer_models import SIZES, SMALL

close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
EVERY = pytest.mark.parametrize("name", SMALL)
HUGGING_FACE = pytest.mark.parametrize("name", [name for name in SMALL if "timm" not in name])
STAGES = ["patches", "block 0", "block 1", "norm"]


def assert_stages_agree(name: str, ours: MegaVit, theirs: Any, images: Tensor) -> None:
    mine, yours = our_stages(ours, images), peer_stages(SMALL[name].family, theirs, images)
    assert list(yours)[:4] == STAGES
    assert {"pooled", "logits"} & set(yours)
    for stage, tensor in yours.items():
        close(mine[stage], tensor, msg=lambda text, stage=stage: f"at stage {stage}: {text}")


@EVERY
def test_every_stage_agrees(name: str) -> None:
    theirs = SMALL[name].make()
    ours = load_our_model(SMALL[name].family, theirs)
    images = torch.randn(2, ours.config.channels, *ours.config.image_hw)
    assert_stages_agree(name, ours, theirs, images)


@pytest.mark.parametrize(
    "name", [name for name in SMALL if any(word in name for word in ("DINOv3", "rotary", "Perception"))]
)
@pytest.mark.parametrize("grid", [(2, 3), (3, 5), (7, 1), (1, 1)])
def test_rotary_positions_agree_at_any_size(name: str, grid: tuple[int, int]) -> None:
    theirs = SMALL[name].make()
    ours = load_our_model(SMALL[name].family, theirs)
    rows, columns = grid
    height, width = ours.config.patch_hw
    assert_stages_agree(name, ours, theirs, torch.randn(2, 3, rows * height, columns * width))


@torch.no_grad()
def test_timm_pools_dinov3_by_its_class_token_if_asked_to() -> None:
    small = SMALL["timm DINOv3, biases"]
    theirs = small.make(global_pool="token")
    ours = load_our_model(small.family, theirs)
    assert ours.config.pool == "cls"
    images = torch.randn(2, 3, 32, 48)
    close(ours(images), theirs(images))


@torch.no_grad()
def test_timms_features_may_be_pooled_by_the_class_token_and_the_mean() -> None:
    theirs = SMALL["timm DINOv3, no head"].make()
    peer, tensors = SMALL["timm DINOv3, no head"].family.peer, theirs.state_dict()
    known = {"pool": "cls_mean", "positions": "rope", "image_size": (32, 48)}
    ours = load_ours(peer, tensors, known)
    images = torch.randn(2, 3, 32, 48)
    tokens = theirs.forward_features(images)
    prefix = ours.config.num_prefix_tokens
    close(ours(images), torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=1))


@pytest.mark.parametrize("name", ["ViT", "SigLIP", "CLIP", "DINOv2"])
@torch.no_grad()
def test_pixels_that_are_no_whole_patch_are_left_out(name: str) -> None:
    theirs = SMALL[name].make(image_size=37)
    ours = load_our_model(SMALL[name].family, theirs)
    assert ours.config.image_hw == (32, 32)
    images = torch.randn(2, 3, 37, 37)
    close(ours(images[:, :, :32, :32]), SMALL[name].family.peer_outputs(theirs, images)["pooled"])


@HUGGING_FACE
@torch.no_grad()
def test_transformers_reads_what_is_written(name: str, tmp_path: Path) -> None:
    small, theirs = SMALL[name], SMALL[name].make()
    peer: Any = small.family.peer
    ours = load_our_model(small.family, theirs)
    tensors = to_theirs(peer.key_rules(ours.config), ours.state_dict())
    if hasattr(peer, "file_name"):
        tensors = {peer.file_name(name, ours.config): tensor for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    theirs.config.save_pretrained(tmp_path)
    again, report = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    # What our model does not have is said to be new, and nothing else.
    assert all("pooler" in key or key.endswith("embeddings.mask_token") for key in report["missing_keys"])
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    images = torch.randn(2, ours.config.channels, *ours.config.image_hw)
    for stage, answer in small.family.peer_outputs(theirs, images).items():
        close(small.family.peer_outputs(again.eval(), images)[stage], answer)


# In memory, DINOv2's gates and values are apart, which is refused.
@pytest.mark.parametrize("name", [name for name in SMALL if "timm" not in name and name != "DINOv2, SwiGLU"])
def test_names_in_memory_are_those_of_files(name: str) -> None:
    theirs = SMALL[name].make()
    peer: Any = SMALL[name].family.peer
    assert set(peer.names(theirs.state_dict()).values()) == set(table_tensors(peer, file_tensors(theirs)))


TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}


@torch.no_grad()
@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_the_image_tower_comes_out_of_the_whole_model(kind: str) -> None:
    torch.manual_seed(0)
    special = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    config = getattr(transformers, f"{kind}Config")(vision_config=SIZES, text_config=TEXT | special)
    theirs = getattr(transformers, f"{kind}Model")(config).eval()
    perturb_weights(theirs)
    ours = load_our_model(FAMILIES["Hugging Face CLIP"], theirs)
    images = torch.randn(2, 3, 32, 32)
    answer = theirs.get_image_features(images)
    close(ours(images), getattr(answer, "pooler_output", answer))


@torch.no_grad()
def test_siglips_classifier_reads_the_mean() -> None:
    torch.manual_seed(0)
    labels: Any = {"num_labels": 5}
    config = transformers.SiglipConfig(vision_config=SIZES, text_config=TEXT | {"pad_token_id": 1}, **labels)
    theirs = transformers.SiglipForImageClassification(config).eval()
    perturb_weights(theirs)
    ours = load_our_model(FAMILIES["Hugging Face CLIP"], theirs)
    images = torch.randn(2, 3, 32, 32)
    assert ours.config.pool == "mean"
    close(ours(images), theirs(images).logits)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ViTForMaskedImageModeling", "ViTMAEForPreTraining"])
def test_an_encoder_comes_out_of_its_pre_training(kind: str) -> None:
    torch.manual_seed(0)
    family = FAMILIES["Hugging Face ViT"]
    config: Any = transformers.ViTConfig(**SIZES)
    if kind == "ViTMAEForPreTraining":
        config = transformers.ViTMAEConfig(**SIZES, decoder_num_hidden_layers=1, mask_ratio=0.0)
    theirs: Any = getattr(transformers, kind)(config).eval()
    perturb_weights(theirs)
    images = torch.randn(2, 3, 32, 32)
    close(load_our_model(family, theirs)(images), family.peer_outputs(theirs.vit, images)["pooled"])
