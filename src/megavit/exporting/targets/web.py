"""Export to a web page with the ONNX model and ONNX Runtime's build for browsers."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from megavit.config.export_info import ExportPrecision
from megavit.errors import ConfigError
from megavit.exporting.targets.onnx import write_onnx
from megavit.page import check_runtime, write_site
from megavit.predict.predictor import Predictor

PACKAGE = "onnxruntime-web@1.30.0"  # npm package; the page is tested with this version


def write_web(
    predictor: Predictor, folder: Path, precision: ExportPrecision, metadata: str, runtime: Path | None
) -> None:
    """Fill an empty folder with the page, model and runtime; raise a ConfigError if npm or files are missing."""
    with _runtime(runtime) as files, tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model.onnx"
        write_onnx(predictor, model, "pixels", precision, metadata)
        write_site(folder, model, json.loads(metadata), files)


@contextmanager
def _runtime(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        check_runtime(folder)
        yield folder
        return
    advice = "or download the package elsewhere and pass its dist folder with --onnxruntime-web"
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(f"npm is needed to download onnxruntime-web, but was not found: install it, {advice}")
    with tempfile.TemporaryDirectory() as prefix:
        command = [npm, "install", "--prefix", prefix, "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
        done = subprocess.run(command, cwd=prefix, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["no reason given"]
            raise ConfigError(f"npm could not download {PACKAGE} ({errors[0].strip()}): check its registry, {advice}")
        yield Path(prefix) / "node_modules" / "onnxruntime-web" / "dist"
