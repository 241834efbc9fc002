"""Another library's model as a user takes it in: converted, asked, tuned, and given back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_images
from timm.models import save_for_hf

from megavit.predict.predictor import load
from tests.end_to_end.conftest import QUICK
from tests.helpers.command_line import run_megavit, run_megavit_json

LABELS = ["a place", "a plant", "neither"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A small ViT of timm's, in the folder that its library writes."""
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 3}
    model: Any = timm.create_model("vit_tiny_patch16_224", **sizes).eval()
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 32, 32), "crop_pct": 0.8}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("theirs") / "vit"
    arguments = {"model_args": sizes, "label_names": LABELS}
    save_for_hf(model, str(folder), model_config=arguments, safe_serialization=True)
    return model, folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    paths = []
    for i, pixels in enumerate(load_sample_images().images):
        paths.append(folder / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def their_answers(model: Any, paths: list[Path]) -> np.ndarray:
    """By timm's own preparation."""
    settings: dict[str, Any] = timm.data.resolve_model_data_config(model)
    transform: Any = timm.data.create_transform(**settings)
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        return model(images).softmax(dim=1).numpy()


def test_a_converted_model_answers_for_photographs_as_its_library_does(
    theirs: tuple[Any, Path], photographs: list[Path], tmp_path: Path
) -> None:
    model, folder = theirs
    reported = run_megavit_json("convert", folder, "--out", "vit", cwd=tmp_path)
    assert reported["source_format"] == "timm"
    assert reported["image_size"] == [32, 32]
    expected = their_answers(model, photographs)
    done = run_megavit("predict", "vit", *photographs, "--verify", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line, row in zip(done.stdout.splitlines(), expected, strict=True):
        found = {one["label"]: one["probability"] for one in json.loads(line)["top"]}
        # Their resizing rounds between its two directions.
        assert np.allclose([found[label] for label in LABELS], row, atol=0.02)


def test_it_goes_back_to_the_bit(theirs: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = theirs
    assert run_megavit("convert", folder, "--out", "vit", cwd=tmp_path).returncode == 0
    assert run_megavit("convert", "vit", "--out", "back", "--to", "timm", cwd=tmp_path).returncode == 0
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again: Any = timm.create_model(f"local-dir:{tmp_path / 'back'}", pretrained=True)
    assert again.pretrained_cfg["crop_pct"] == pytest.approx(0.8, abs=0.01)


def test_a_classifier_is_trained_on_top_of_it(theirs: tuple[Any, Path], digits: Path, tmp_path: Path) -> None:
    _, folder = theirs
    done = run_megavit("train", digits, "--from", folder, "--finetune", "probe", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    info = load(tmp_path / "run").info
    assert info.labels == ["digit 0", "digit 1", "digit 2"]
    assert info.model.design.block == "serial"
    assert info.preprocessing.resize is None  # the whole image is learned from


def test_a_run_of_ours_is_given_to_no_library_that_cannot_be_it(run: Path, tmp_path: Path) -> None:
    done = run_megavit("convert", run, "--out", "out", "--to", "timm", cwd=tmp_path)
    assert done.returncode == 2
    assert "mlp: 'relu2', expected 'gelu' or 'gelu_tanh' or 'quick_gelu'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_classifier_says_what_it_is_for(
    theirs: tuple[Any, Path], photographs: list[Path], tmp_path: Path
) -> None:
    tensors = load_file(theirs[1] / "model.safetensors")
    torch.save({name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}, tmp_path / "a.pth")
    guessed = run_megavit_json("convert", "a.pth", "--out", "guessed", cwd=tmp_path)
    assert any("assumed, as the files do not specify it: heads 1, " in sentence for sentence in guessed["notes"])
    reported = run_megavit_json("convert", "a.pth", "--out", "vit", "--num-heads", "3", cwd=tmp_path)
    assert not any("heads" in sentence for sentence in reported["notes"])
    assert any("the files do not specify the preprocessing" in sentence for sentence in reported["notes"])
    done = run_megavit("predict", "vit", photographs[0], cwd=tmp_path)
    assert done.returncode == 2
    assert "megavit embed" in done.stderr
    assert "--from" in done.stderr
    assert run_megavit("embed", "vit", *photographs, "--out", "seen.npz", cwd=tmp_path).returncode == 0
    assert np.load(tmp_path / "seen.npz")["embedding"].shape == (2, 48)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nowhere", "--out", "vit"], ["nowhere does not exist", "timm:NAME"]),
        (["timm:no such", "--out", "vit"], ["not a model name"]),
        (["notes.txt", "--out", "vit"], ["must end in .safetensors"]),
        (["notes.txt"], ["--out"]),
    ],
)
def test_mistakes_are_told_plainly(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    done = run_megavit("convert", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "vit").exists()
