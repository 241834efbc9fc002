"""Write the web page that predicts images dropped on it, for `megavit serve` and for exports."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megavit.errors import ConfigError

RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of the npm package onnxruntime-web that the page loads."""

_POLICY_MARKER = "<!-- content policy -->"
# 'wasm-unsafe-eval' allows compiling WebAssembly and nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
_SERVER_FILES = ("index.html", "backend.js", "server_backend.js")


def static_folder() -> Path:
    """Return the folder of the page's files: index.html is served at the root, the others below page/."""
    return Path(__file__).with_name("static")


def check_runtime(folder: Path) -> None:
    """Raise a ConfigError unless a folder has all `RUNTIME_FILES`."""
    missing = [name for name in RUNTIME_FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} has no {', '.join(missing)}; npm install onnxruntime-web installs them, in "
            "node_modules/onnxruntime-web/dist"
        )


def write_site(folder: Path, model: bytes | Path, metadata: Mapping[str, Any], runtime: Path) -> None:
    """Fill an empty folder with the page and a model that runs in the browser, for any web server.

    Args:
        model: the exported ONNX model, or its path.
        metadata: the metadata written by `megavit export` to the ONNX file.
        runtime: folder with the `RUNTIME_FILES`, such as the dist of onnxruntime-web.

    Raises:
        ConfigError: if `runtime` lacks files; raised before anything is written.
    """
    check_runtime(runtime)
    page = folder / "page"
    (page / "runtime").mkdir(parents=True)
    index = (static_folder() / "index.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    (folder / "index.html").write_text(index.replace(_POLICY_MARKER, policy), encoding="utf-8")
    for file in static_folder().iterdir():
        if file.name not in _SERVER_FILES:
            shutil.copyfile(file, page / file.name)
    (page / "backend.js").write_text('export * from "./model_backend.js";\n', encoding="utf-8")
    (page / "model.json").write_text(json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False), encoding="utf-8")
    if isinstance(model, Path):
        shutil.copyfile(model, page / "model.onnx")
    else:
        (page / "model.onnx").write_bytes(model)
    for name in RUNTIME_FILES:
        shutil.copyfile(runtime / name, page / "runtime" / name)
