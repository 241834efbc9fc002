"""Checkpoints that cannot be used: one error each, with what came, what was expected, and what to do."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from megavit.errors import BundleError
from megavit.weights.pretrained.pretrained import load_pretrained


def vit(**changes: Any) -> dict[str, torch.Tensor]:
    settings: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
    model: Any = timm.create_model("vit_tiny_patch16_224", num_classes=3, **settings | changes)
    return dict(model.state_dict())


def written(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def only_a_part(folder: Path) -> Path:
    return written(folder / "a.safetensors", {n: t for n, t in vit().items() if not n.startswith("blocks.1.mlp")})


def no_final_norm(folder: Path) -> Path:
    return written(folder / "a.safetensors", {n: t for n, t in vit().items() if not n.startswith("norm.")})


def parts_of_another_model(folder: Path) -> Path:
    return written(folder / "a.safetensors", vit() | {"blocks.0.attn.relative_position_bias": torch.zeros(4)})


def layers_of_different_sizes(folder: Path) -> Path:
    return written(folder / "a.safetensors", vit() | {"blocks.1.mlp.fc1.weight": torch.zeros(100, 64)})


def positions_of_an_oblong(folder: Path) -> Path:
    return written(folder / "a.safetensors", vit(img_size=(32, 40)))


def positions_of_another_size(folder: Path) -> Path:
    written(folder / "model.safetensors", vit())
    (folder / "config.json").write_text(json.dumps({"architecture": "vit", "model_args": {"img_size": [64, 64]}}))
    return folder


def another_kind_of_model(folder: Path) -> Path:
    return written(folder / "a.safetensors", dict(resnet18().state_dict()))


def code(folder: Path) -> Path:
    torch.save({"state_dict": vit(), "run": os.system}, folder / "a.pth")
    return folder / "a.pth"


def a_pickle(folder: Path) -> Path:
    (folder / "a.pt").write_bytes(pickle.dumps(Path.home))
    return folder / "a.pt"


def cut_short(folder: Path) -> Path:
    path = written(folder / "a.safetensors", vit())
    path.write_bytes(path.read_bytes()[:5000])
    return path


def cut_short_of_torch(folder: Path) -> Path:
    torch.save(vit(), folder / "a.pth")
    (folder / "a.pth").write_bytes((folder / "a.pth").read_bytes()[:5000])
    return folder / "a.pth"


def no_weights(folder: Path) -> Path:
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, folder / "a.pth")
    return folder / "a.pth"


def objects(folder: Path) -> Path:
    np.savez(folder / "a.npz", a=np.array([{}], dtype=object))
    return folder / "a.npz"


def text(folder: Path) -> Path:
    (folder / "a.txt").write_text("weights")
    return folder / "a.txt"


def an_empty_folder(folder: Path) -> Path:
    return folder


def several_files(folder: Path) -> Path:
    for name in ("a", "b"):
        written(folder / f"{name}.safetensors", vit())
    return folder


def a_missing_part(folder: Path) -> Path:
    index = {"weight_map": {"cls_token": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def a_part_elsewhere(folder: Path) -> Path:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    return folder


def two_heads(folder: Path) -> Path:
    model: Any = timm.create_model("deit_tiny_distilled_patch16_224")
    return written(folder / "a.safetensors", dict(model.state_dict()))


WRONG: dict[Callable[[Path], Path], tuple[str, ...]] = {
    only_a_part: ("blocks.1.mlp.fc1.weight: is missing", "blocks.1.mlp.fc2.bias: is missing", "only a part"),
    no_final_norm: ("no norm after its layers", "norm.weight"),
    parts_of_another_model: (
        "relative_position_bias: is not part of this model",
        "parts that a plain Vision Transformer",
    ),
    layers_of_different_sizes: ("blocks.1.mlp.fc1.weight: has shape (100, 64), expected (256, 64)", "different sizes"),
    positions_of_an_oblong: ("do not form a square", "image size"),
    positions_of_another_size: ("pos_embed: has shape (1, 17, 64), expected (1, 65, 64)", "another size"),
    another_kind_of_model: ("unknown format", "122 tensors", "timm"),
    code: ("it refers to posix.system", "could run code", "safetensors"),
    a_pickle: ("could run code",),
    cut_short: ("cannot be read", "copy it again"),
    cut_short_of_torch: ("cannot be read",),
    no_weights: ("contains no named weights", "epoch"),
    objects: ("contains objects", "run code"),
    text: ("must end in .safetensors",),
    an_empty_folder: ("model.safetensors",),
    several_files: ("2 other weight files", "pass the path of one"),
    a_missing_part: ("there is no file", "model-00001-of-00002.safetensors"),
    a_part_elsewhere: ("not a weight file in the same folder",),
    two_heads: ("two classifiers",),
}


@pytest.mark.parametrize("make", WRONG)
def test_one_error_says_what_is_wrong(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(BundleError) as caught:
        load_pretrained(str(path))
    for word in WRONG[make]:
        assert word in str(caught.value)


def test_an_archive_that_would_fill_the_memory_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10_000_000, np.float32))
    assert (tmp_path / "a.npz").stat().st_size < 100_000
    monkeypatch.setattr("megavit.weights.pretrained.checkpoint_files.main_memory", lambda: 10_000_000)
    with pytest.raises(BundleError, match="more than this machine's memory"):
        load_pretrained(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("wrapped", [lambda t: t, lambda t: {"state_dict": t, "epoch": 3}, lambda t: {"model": t}])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_what_training_scripts_put_around_the_weights_is_taken_off(
    tmp_path: Path, wrapped: Callable[[Any], Any], prefix: str
) -> None:
    tensors = vit()
    torch.save(wrapped({prefix + name: tensor for name, tensor in tensors.items()}), tmp_path / "a.pth")
    found = load_pretrained(str(tmp_path / "a.pth"))
    assert found.format == "timm"
    assert torch.equal(found.tensors["mlp_head.weight"], tensors["head.weight"])


def test_averaged_weights_go_first(tmp_path: Path) -> None:
    tensors = vit()
    averaged = {name: tensor + 1 for name, tensor in tensors.items()}
    torch.save({"state_dict": tensors, "state_dict_ema": averaged}, tmp_path / "a.pth")
    assert torch.equal(load_pretrained(str(tmp_path / "a.pth")).tensors["mlp_head.bias"], averaged["head.bias"])


def test_weights_in_several_files_are_one_model(tmp_path: Path) -> None:
    tensors = vit()
    names = sorted(tensors)
    files = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        written(tmp_path / file, {name: tensors[name] for name in names if files[name] == file})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert torch.equal(load_pretrained(str(tmp_path)).tensors["mlp_head.bias"], tensors["head.bias"])
