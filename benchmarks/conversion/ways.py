"""The ways out of a bundle, each judged by what is at its end: the answers of that library, runtime or server."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import openvino
import timm
import timm.data
import torch
import transformers
from PIL import Image
from scipy.special import expit, softmax

from megavit.config.target import Target
from megavit.engine.int8 import calibrate as int8_bounds
from megavit.exporting.export import export
from megavit.exporting.parity_images import load_parity_images
from megavit.predict.exported_predictor import load_exported
from megavit.predict.prediction import Prediction
from megavit.predict.predictor import load
from megavit.weights.bundle.bundle import copy_bundle, read_info
from megavit.weights.pretrained.pretrained import load_pretrained
from megavit.weights.pretrained.save_checkpoint import Library, save_pretrained
from megavit.weights.pretrained.to_bundle import convert_to_bundle

Way = Callable[[Path, list[Path], Path], np.ndarray]
"""From a bundle's folder, images and a new folder to (images, outputs): probabilities by label, or scores."""


def to_array(found: list[Prediction], labels: list[str]) -> np.ndarray:
    if not labels:
        return np.array([[prediction.score] for prediction in found])
    return np.array([[dict(prediction.top)[label] for label in labels] for prediction in found])


def predict_with_bundle(bundle: Path, images: list[Path]) -> np.ndarray:
    predictor = load(bundle, device="cpu")
    return to_array(predictor.predict(images, top=len(predictor.labels) or 1), list(predictor.labels))


def predict_with_pipeline(folder: Path, images: list[Path], labels: list[str]) -> np.ndarray:
    """The answers of transformers' own pipeline, with its own image processor; a score has a label there too."""
    pipeline: Any = transformers.pipeline
    classify = pipeline("image-classification", str(folder))
    found = [
        {prediction["label"]: prediction["score"] for prediction in classify(str(path), top_k=1000)} for path in images
    ]
    return np.array([[row[label] for label in labels or ["score"]] for row in found])


def predict_with_timm(folder: Path, images: list[Path], target: Target) -> np.ndarray:
    """timm's logits, after timm's own transform, and then what config.json says of them."""
    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    preparation: dict[str, Any] = timm.data.resolve_model_data_config(model)
    transform: Any = timm.data.create_transform(**preparation)
    with torch.no_grad():
        logits = model(torch.stack([transform(Image.open(path).convert("RGB")) for path in images])).numpy()
    problem_type = json.loads((folder / "config.json").read_text())["problem_type"]
    expected = {
        "classification": "single_label_classification",
        "multilabel": "multi_label_classification",
        "regression": "regression",
    }
    assert problem_type == expected[target.kind]
    match problem_type:
        case "single_label_classification":
            return softmax(logits, axis=1)
        case "multi_label_classification":
            return expit(logits)
        case _:
            return logits


def convert_back(folder: Path, bundle: Path, images: list[Path], out: Path) -> np.ndarray:
    """A bundle again, which must be of the kind, the labels and the thresholds that it was of."""
    convert_to_bundle(load_pretrained(str(folder)), out)
    before, after = read_info(bundle), read_info(out)
    assert (after.target.kind, after.labels) == (before.target.kind, before.labels)
    assert (after.target.thresholds, after.target.median) == (before.target.thresholds, before.target.median)
    return predict_with_bundle(out, images)


def via_library(name: Library, reader: str) -> Way:
    def way(bundle: Path, images: list[Path], out: Path) -> np.ndarray:
        save_pretrained(name, load_pretrained(str(bundle)), out / "theirs")
        info = read_info(bundle)
        if reader == "pipeline":
            return predict_with_pipeline(out / "theirs", images, info.labels)
        if reader == "timm":
            return predict_with_timm(out / "theirs", images, info.target)
        return convert_back(out / "theirs", bundle, images, out / "back")

    return way


def via_runtime(target: str) -> Way:
    """By the runtime itself, from pixels as they are decoded."""

    def way(bundle: Path, images: list[Path], out: Path) -> np.ndarray:
        predictor = load(bundle, device="cpu")
        parity_images, source = load_parity_images(predictor, None)
        export(predictor, target, out / "exported", parity_images, source=source)
        run = RUNTIMES[target](out / "exported")
        rows = [run(np.asarray(Image.open(path).convert("RGB"))[None])[0] for path in images]
        return np.stack(rows).reshape(len(images), -1)

    return way


def _onnx(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return lambda pixels: np.asarray(session.run(None, {"pixels": pixels})[0])


def _openvino(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: np.array(compiled([pixels])[0])


def _torch(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    module = torch.export.load(folder / "model.pt2").module()
    return lambda pixels: module(torch.from_numpy(pixels.copy()))[0].detach().numpy()


RUNTIMES: dict[str, Callable[[Path], Callable[[np.ndarray], np.ndarray]]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "torch": _torch,
}


def via_exported_predictor(bundle: Path, images: list[Path], out: Path) -> np.ndarray:
    """By `megavit predict` of an ONNX export."""
    predictor = load(bundle, device="cpu")
    parity_images, source = load_parity_images(predictor, None)
    export(predictor, "onnx", out / "exported", parity_images, source=source)
    found = load_exported(out / "exported")
    return to_array([found.predict(path, top=len(predictor.labels) or 1) for path in images], list(predictor.labels))


def via_server(bundle: Path, images: list[Path], out: Path) -> np.ndarray:
    """By `megavit serve`, over loopback."""
    labels = read_info(bundle).labels
    command = [sys.executable, "-m", "megavit", "serve", f"model={bundle}", "--port", "0", "--json"]
    with (
        (out / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        try:
            address = json.loads(server.stdout.readline())["url"]
            rows = []
            for path in images:
                body, top = path.read_bytes(), max(1, len(labels))
                answer = httpx.post(f"{address}/predict", params={"top": top}, content=body, timeout=60)
                found = answer.raise_for_status().json()["predictions"][0]
                by_label = {prediction["label"]: prediction["probability"] for prediction in found.get("top") or ()}
                rows.append([by_label[label] for label in labels] if labels else [found["score"]])
        finally:
            server.terminate()
    return np.array(rows)


def via_int8_bundle(bundle: Path, images: list[Path], out: Path) -> np.ndarray:
    """The float32 answers of a bundle that may multiply 8-bit integers, which must be those that it gave before."""
    predictor = load(bundle, device="cpu")
    batches = [torch.stack([predictor.prepare(path) for path in images])]
    bounds = int8_bounds(predictor.model, predictor.info.preprocessing, batches)
    info = read_info(bundle)
    info.int8["bounds"] = bounds
    copy_bundle(bundle, out / "int8", info)
    return predict_with_bundle(out / "int8", images)


WAYS: dict[str, Way] = {
    "Hugging Face, its pipeline": via_library("huggingface", "pipeline"),
    "Hugging Face, and back": via_library("huggingface", "bundle"),
    "timm, its own transform": via_library("timm", "timm"),
    "timm, transformers' pipeline": via_library("timm", "pipeline"),
    "timm, and back": via_library("timm", "bundle"),
    "ONNX, onnxruntime": via_runtime("onnx"),
    "ONNX, megavit predict": via_exported_predictor,
    "OpenVINO": via_runtime("openvino"),
    "torch.export": via_runtime("torch"),
    "serve": via_server,
    "quantize": via_int8_bundle,
}


def difference(way: Way, bundle: Path, images: list[Path], scratch: Path) -> float:
    """Return the greatest difference between a way's answers and the bundle's.

    Of probabilities, or of scores in standard deviations of those that the bundle was trained on.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    found, expected = way(bundle, images, scratch), predict_with_bundle(bundle, images)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / read_info(bundle).target.std)
