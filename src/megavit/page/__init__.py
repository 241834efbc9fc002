"""The page: pictures in, answers beside them. Static files, for the server and for a folder that needs none."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megavit.errors import ConfigError

RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Of the package onnxruntime-web, what the browser build needs."""

_POLICY_PLACE = "<!-- content policy -->"
# 'wasm-unsafe-eval' lets WebAssembly be compiled, and nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
_OF_SERVER = ("index.html", "answerer.js", "by_server.js")


def files() -> Path:
    """The folder of the server's page: index.html, which belongs at the root, and all else, which belongs at page/."""
    return Path(__file__).with_name("static")


def check_runtime(folder: Path) -> None:
    """Raise a ConfigError unless a folder has all of `RUNTIME_FILES`."""
    lacking = [name for name in RUNTIME_FILES if not (folder / name).is_file()]
    if lacking:
        raise ConfigError(
            f"{folder} lacks {', '.join(lacking)}; npm install onnxruntime-web brings them, in "
            "node_modules/onnxruntime-web/dist"
        )


def write_site(folder: Path, model: bytes | Path, metadata: Mapping[str, Any], runtime: Path) -> None:
    """Fill a folder with the page and a model that answers in the browser, for any web server.

    Args:
        folder: empty, or to be made.
        model: the exported ONNX model, or its file.
        metadata: what the model says about itself, as `megavit export` writes it into the ONNX file.
        runtime: a folder with the `RUNTIME_FILES`, such as the dist of onnxruntime-web.

    Raises:
        ConfigError: naming what `runtime` lacks, before anything is written.
    """
    check_runtime(runtime)
    page = folder / "page"
    (page / "runtime").mkdir(parents=True)
    index = (files() / "index.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    (folder / "index.html").write_text(index.replace(_POLICY_PLACE, policy), encoding="utf-8")
    for file in files().iterdir():
        if file.name not in _OF_SERVER:
            shutil.copyfile(file, page / file.name)
    (page / "answerer.js").write_text('export * from "./by_model.js";\n', encoding="utf-8")
    (page / "model.json").write_text(json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False), encoding="utf-8")
    if isinstance(model, Path):
        shutil.copyfile(model, page / "model.onnx")
    else:
        (page / "model.onnx").write_bytes(model)
    for name in RUNTIME_FILES:
        shutil.copyfile(runtime / name, page / "runtime" / name)
