"""Checkpoints as training scripts leave them: the answers are those of the model that was saved."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.conversion.checkpoints import CASES, add_prefix, check_case, vit
from benchmarks.conversion.compare import EXACT
from megavit.errors import BundleError
from megavit.weights.pretrained.pretrained import load_pretrained


@pytest.mark.parametrize("name", CASES)
def test_it_is_read_exactly(name: str, tmp_path: Path) -> None:
    row = check_case(name, tmp_path)
    assert row.verdict == EXACT, row


def reported(path: Path, weights: str | None = None) -> str:
    return "; ".join(load_pretrained(str(path), state_dict=weights).notes)


def test_of_several_models_the_averaged_is_taken_and_the_others_named_and_to_be_had(tmp_path: Path) -> None:
    student, teacher = vit(0), vit(1)
    both = {"student": add_prefix(student, "module.backbone."), "teacher": add_prefix(teacher, "backbone.")}
    torch.save(both, tmp_path / "a.pth")
    said = reported(tmp_path / "a.pth")
    assert "loaded the weights under 'teacher/backbone'" in said
    assert "skipped other weights under 'student/module.backbone'" in said
    other = load_pretrained(str(tmp_path / "a.pth"), state_dict="student/module.backbone")
    assert torch.equal(other.tensors["mlp_head.bias"], student.head.bias)
    with pytest.raises(BundleError, match=r"no weights under 'x', only under 'teacher/backbone', 'student"):
        load_pretrained(str(tmp_path / "a.pth"), state_dict="x")


@pytest.mark.parametrize(
    "words", [("model", "model_ema"), ("net", "shadow"), ("a", "ema_state_dict"), ("b", "teacher")]
)
@pytest.mark.parametrize("averaged_first", [True, False])
def test_averaged_weights_go_first_wherever_they_stand(
    words: tuple[str, str], averaged_first: bool, tmp_path: Path
) -> None:
    tables = {words[0]: vit(0).state_dict(), words[1]: vit(1).state_dict()}
    order = reversed(words) if averaged_first else words
    torch.save({word: tables[word] for word in order}, tmp_path / "a.pth")
    taken = load_pretrained(str(tmp_path / "a.pth")).tensors["mlp_head.bias"]
    assert torch.equal(taken, tables[words[1]]["head.bias"])


@pytest.mark.parametrize("prefix", ["net.", "vit.", "encoder.", "base_model.model.", "module._orig_mod.model.", "1."])
def test_a_prefix_is_found_though_not_every_name_has_it(prefix: str, tmp_path: Path) -> None:
    model = vit()
    torch.save(add_prefix(model, prefix) | {"criterion.weight": torch.ones(5)}, tmp_path / "a.pth")
    source = load_pretrained(str(tmp_path / "a.pth"))
    assert torch.equal(source.tensors["mlp_head.bias"], model.head.bias)
    assert "left out a tensor that is not part of the image model: criterion.weight" in source.notes


def several(*layers: nn.Module) -> Any:
    model = vit()
    model.head = nn.Sequential(*layers)
    return model


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)),
        (nn.BatchNorm1d(64), nn.Linear(64, 3)),
        (nn.LayerNorm(64), nn.Linear(64, 3)),
    ],
)
def test_a_classifier_of_several_layers_is_refused_by_name(layers: tuple[nn.Module, ...], tmp_path: Path) -> None:
    torch.save(several(*layers).state_dict(), tmp_path / "a.pth")
    with pytest.raises(BundleError, match=r"has a classifier of several layers \(head\.0\."):
        load_pretrained(str(tmp_path / "a.pth"))


def test_a_projection_for_pre_training_is_no_classifier(tmp_path: Path) -> None:
    head = {"head.mlp.0.weight": torch.ones(128, 64), "head.last_layer.weight": torch.ones(9, 128)}
    torch.save({"teacher": add_prefix(vit(classes=0), "backbone.") | head}, tmp_path / "a.pth")
    assert load_pretrained(str(tmp_path / "a.pth")).config.num_classes == 0


def test_loras_matrices_apart_are_refused_with_what_to_do(tmp_path: Path) -> None:
    tensors = {
        name.replace("qkv.weight", "qkv.base_layer.weight"): tensor
        for name, tensor in add_prefix(vit(), "base_model.model.").items()
    }
    tensors["base_model.model.blocks.0.attn.qkv.lora_A.default.weight"] = torch.zeros(4, 64)
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(BundleError, match=r"LoRA matrices .*merge_and_unload"):
        load_pretrained(str(tmp_path / "a.pth"))


UNUSABLE = {
    "int8": (lambda tensor: tensor.to(torch.int8), "has dtype int8"),
    "int64": (lambda tensor: tensor.to(torch.int64), "has dtype int64"),
    "bool": (lambda tensor: tensor > 0, "has dtype bool"),
    "complex": (lambda tensor: tensor.to(torch.complex64), "has dtype complex64"),
    "float8": (lambda tensor: tensor.to(torch.float8_e4m3fn), "has dtype float8_e4m3fn"),
    "sparse": (lambda tensor: tensor.to_sparse(), "is sparse or nested"),
    "rows": (lambda tensor: tensor.to_sparse_csr(), "is sparse or nested"),
    "meta": (lambda tensor: tensor.to("meta"), "has no data"),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("kind", UNUSABLE)
def test_numbers_that_are_no_floats_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    make, words = UNUSABLE[kind]
    tensors = vit().state_dict()
    name = "blocks.0.mlp.fc1.weight"
    torch.save(tensors | {name: make(tensors[name])}, tmp_path / "a.pth")
    with pytest.raises(BundleError, match=f"{name}: {words}"):
        load_pretrained(str(tmp_path / "a.pth"))


def test_quantized_numbers_are_refused_by_name(tmp_path: Path) -> None:
    tensors = vit().state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that such tensors have no future
        packed = torch.quantize_per_tensor(torch.ones(256, 64), 0.1, 0, torch.qint8)
    torch.save(tensors | {"blocks.0.mlp.fc1.weight": packed}, tmp_path / "a.pth")
    with pytest.raises(BundleError, match=r"fc1\.weight: is quantized \(qint8\)"):
        load_pretrained(str(tmp_path / "a.pth"))


def test_halves_and_doubles_are_read(tmp_path: Path) -> None:
    model = vit()
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        torch.save({name: tensor.to(kind) for name, tensor in model.state_dict().items()}, tmp_path / "a.pth")
        assert load_pretrained(str(tmp_path / "a.pth")).config.dim == 64


def test_a_checkpoint_in_shards_says_how_to_join_them(tmp_path: Path) -> None:
    (tmp_path / ".metadata").touch()
    (tmp_path / "__0_0.distcp").touch()
    with pytest.raises(BundleError, match="dcp_to_torch"):
        load_pretrained(str(tmp_path))
