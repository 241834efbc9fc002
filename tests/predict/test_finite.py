"""Answers that are no numbers, and bundles whose settings would make such: errors, never an answer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from megavit.cli.app import run
from megavit.config.calibration import Calibration
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.errors import BundleError, ConfigError
from megavit.predict.postprocess.postprocess import MEANS, WHITENING
from megavit.predict.predictor import load
from megavit.weights.bundle.bundle import _checksum
from tests.helpers.bundles import make_bundle, make_info, make_model

PIXELS = np.zeros((9, 9, 3), np.uint8)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("verb", ["predict", "embed"])
def test_weights_that_are_no_numbers_give_errors_and_no_nan(verb: str, value: float, tmp_path: Path, capsys) -> None:
    model = make_model()
    with torch.no_grad():
        next(iter(model.parameters())).fill_(value)
    make_bundle(tmp_path / "bundle", model)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert run([verb, str(tmp_path / "bundle"), str(tmp_path / "a.png"), "--json"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "not a finite number" in json.loads(line)["error"] and "NaN," not in line
    predictor = load(tmp_path / "bundle")
    for ask in (predictor.predict, predictor.embed):
        with pytest.raises(BundleError, match="not a finite number"):
            ask(PIXELS)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Preprocessing, {"mean": 1e308}),
        (Preprocessing, {"std": 1e-300}),
        (Preprocessing, {"std": (0.5, 0.5, 1e300)}),
        (Preprocessing, {"height": 10**6}),
        (Preprocessing, {"resize": 10**9}),
        (Calibration, {"temperature": 1e-300}),
        (Calibration, {"temperature": 1e300}),
        (Target, {"kind": "regression", "std": 1e-300}),
        (Target, {"kind": "regression", "mean": 1e300}),
    ],
)
def test_settings_that_float32_cannot_compute_with_are_refused(kind: Any, settings: dict[str, Any]) -> None:
    size = {"height": 8, "width": 8, "channels": 3} if kind is Preprocessing else {}
    with pytest.raises(ConfigError):
        kind(**(size | settings))


def test_channels_of_preprocessing_are_the_models() -> None:
    with pytest.raises(ConfigError, match="must be equal"):
        make_info(make_model(), preprocessing=Preprocessing(height=8, width=8, channels=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32, torch.complex64, torch.bool])
def test_likeness_of_another_type_is_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {MEANS: torch.ones(3, 8).to(dtype), WHITENING: torch.eye(8).to(dtype)}
    make_bundle(tmp_path / "bundle", calibration=Calibration(images=9, ood_threshold=1.0), tensors=tensors)
    with pytest.raises(BundleError, match="of type"):
        load(tmp_path / "bundle")


def test_a_hundred_million_layers_are_refused_before_they_are_made(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    table = json.loads((tmp_path / "bundle" / "megavit.json").read_text())
    table.pop("sha256")
    table["model"]["depth"] = 100_000_000
    (tmp_path / "bundle" / "megavit.json").write_text(json.dumps(table | {"sha256": _checksum(table)}))
    with pytest.raises(BundleError, match="100,000,000 layers"):
        load(tmp_path / "bundle")


def test_top_is_no_more_than_there_are_classes(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    table = tmp_path / "a.csv"
    flags = ["--top", "1000", "--out", str(table)]
    assert run(["predict", str(tmp_path / "bundle"), str(tmp_path / "a.png"), *flags]) == 0
    header, row = table.read_text().splitlines()
    assert len(header.split(",")) == len(row.split(",")) == 3 + 2 * 3
