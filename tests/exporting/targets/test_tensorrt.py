"""What TensorRT builds an engine from is verified here, and says that the engine is not."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from megavit.config.vit import Design
from megavit.errors import ConfigError
from megavit.exporting.export import export
from megavit.exporting.module import ExportModule, output_names, run_eagerly
from megavit.exporting.parity import TOLERANCES
from megavit.predict.exported_predictor import load_exported
from tests.helpers.export_cases import make_predictor, parity_images


def test_the_file_is_verified_in_onnx_runtime_and_the_engine_is_said_not_to_be(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "bundle", True, depth=1, design=Design(positions="sincos"))
    found = export(
        predictor, "tensorrt", tmp_path / "out", parity_images(predictor), input="images", precision="float16"
    )
    assert found.feature_error < TOLERANCES["float16"].features
    said = (tmp_path / "out" / "README.md").read_text()
    assert "Not verified here: an engine of TensorRT" in said and "is the ONNX file in ONNX Runtime" in said
    assert "--stronglyTyped" in said and "--minShapes=images:1x3x" in said
    model = onnx.load(tmp_path / "out" / "model.onnx")
    (metadata,) = (json.loads(one.value) for one in model.metadata_props if one.key == "megavit")
    assert "is built on its GPU" in metadata["unverified"] and metadata["precision"] == "float16"
    with np.load(tmp_path / "out" / "reference.npz") as arrays:
        expected = run_eagerly(ExportModule(predictor, "images"), output_names(predictor))(arrays["input"])
        assert all(np.array_equal(arrays[name], values) for name, values in expected.items())
    with pytest.raises(ConfigError, match="--input images"):
        load_exported(tmp_path / "out")
