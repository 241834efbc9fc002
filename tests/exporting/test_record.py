"""The record beside an exported model, and the script that checks it and reads pictures as `megavit predict` does."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from megavit.data.decode.image_file import read_image_file
from megavit.errors import BundleError
from megavit.predict.export_record import RECORD
from megavit.predict.exported_predictor import load_exported, to_input_channels
from tests.helpers.export_cases import ExportCase


@pytest.fixture(scope="module")
def folder(export_case: ExportCase) -> Path:
    return export_case("onnx", "plain").folder


@pytest.mark.parametrize("name", ["model.onnx", "reference.npz", RECORD])
def test_a_flipped_bit_or_a_missing_file_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "a")
    content = bytearray((tmp_path / "a" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(BundleError, match="copy"):
        load_exported(tmp_path / "a")
    if name != "reference.npz":
        script = [sys.executable, str(tmp_path / "a" / "predict.py")]
        assert subprocess.run(script, capture_output=True, check=False).returncode == 1
    (tmp_path / "a" / name).unlink()
    with pytest.raises(BundleError, match=r"copy|no exported model"):
        load_exported(tmp_path / "a")


@pytest.mark.parametrize("labels", [["cat"], ["cat", "dog"], ["cat", "dog", "newt", "owl"]])
def test_labels_are_as_many_as_outputs(labels: list[str], folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    [said] = [one.value for one in model.metadata_props if one.key == "megavit"]
    table: dict[str, Any] = json.loads(said) | {"labels": labels, "recorded": False}
    table.pop("sets", None)
    onnx.helper.set_model_props(model, {"megavit": json.dumps(table)})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="the metadata is not of this model"):
        load_exported(tmp_path)


@pytest.mark.parametrize("changes", [{"height": 10**6}, {"channels": 7}, {"thresholds": [0.5]}, {"labels": ["a", "a"]}])
def test_metadata_that_cannot_be_is_refused(changes: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    [said] = [one.value for one in model.metadata_props if one.key == "megavit"]
    onnx.helper.set_model_props(model, {"megavit": json.dumps(json.loads(said) | changes)})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="cannot be used"):
        load_exported(tmp_path)


def test_the_script_reads_pictures_as_predict_does_and_goes_on(folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    deep = random.integers(0, 65_536, (20, 30), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(random.random((20, 30), dtype=np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(random.integers(0, 256, (20, 30, 4), dtype=np.uint8)).save(tmp_path / "clear.png")
    Image.fromarray(random.integers(0, 256, (20, 30), dtype=np.uint8)).save(tmp_path / "gray.png")
    (tmp_path / "no.png").write_text("no picture")
    names = ["deep.png", "deep.tif", "no.png", "float.tif", "clear.png", "gone.png", "gray.png"]
    script = (folder / "predict.py").read_text()
    done = subprocess.run(
        [sys.executable, str(folder / "predict.py"), *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 2 and done.stderr == "" and [line.partition(":")[0] for line in lines] == names
    model = load_exported(folder)
    read = script[script.index("def read") : script.index("failed = 0")]
    own: dict[str, Any] = {}
    exec("import numpy as np\nfrom PIL import Image, ImageOps\n" + read, own)
    for name, line in zip(names, lines, strict=True):
        if name in ("no.png", "gone.png"):
            assert "cannot be read" in line
            continue
        pixels = to_input_channels(read_image_file(tmp_path / name)[0], model.info)
        assert np.array_equal(own["read"](tmp_path / name), pixels), name
        found = model.predict(tmp_path / name)
        assert line.startswith(f"{name}: {found.label} {found.probability:.1%}")
