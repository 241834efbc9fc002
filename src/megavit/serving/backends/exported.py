"""Serve exported models with ONNX Runtime or OpenVINO, without PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megavit.data.decode.image_file import read_image_file
from megavit.errors import ConfigError
from megavit.predict.exported_predictor import load_exported, to_input_channels
from megavit.serving.backends.base import group_by_options, time_prediction
from megavit.serving.settings import PredictOptions, WorkerSettings


class ExportedBackend:
    """A backend for a model that `megavit export` wrote for onnx or openvino, which resizes images itself."""

    note: str | None = None
    max_batch_bytes: float = 16 * 2**20
    """Computing takes about 15 times as much, as the graph starts with a float32 copy of all pixels."""

    def __init__(self, settings: WorkerSettings) -> None:
        if settings.device not in ("auto", "cpu") or settings.precision != "float32" or settings.keep_aspect:
            raise ConfigError(
                f"{settings.source} contains an exported model, which runs on the CPU with the settings of its export: "
                "leave out --device, --precision and --keep-aspect, or use the bundle it was exported from"
            )
        self._model = load_exported(Path(settings.source))

    def describe(self) -> dict[str, Any]:
        info = self._model.info
        return {
            "target": info.target,
            "labels": info.labels,
            "height": info.height,
            "width": info.width,
            "channels": info.preprocessing.channels,
            "coverages": [float(coverage) for coverage in info.sets or info.intervals or {}],
            "explanation": False,
            "created": info.created,
        }

    def warm_up(self) -> float:
        info = self._model.info
        return time_prediction(self, np.zeros((info.height, info.width, info.channels), np.uint8))

    def preprocess(self, data: bytes, options: PredictOptions, max_pixels: int) -> np.ndarray:
        if options.explanation:
            raise ConfigError("an exported model does not support explanations: serve the bundle it was exported from")
        self._model.check_coverage(options.coverage)
        pixels, _ = read_image_file(data, self._model.info.preprocessing.decode_size, max_pixels)
        return to_input_channels(pixels, self._model.info)

    def nbytes(self, image: np.ndarray) -> int:
        return image.nbytes

    def predict(self, images: Sequence[np.ndarray], options: Sequence[PredictOptions]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = [{} for _ in images]
        for top, coverage, indices in group_by_options(options):
            outputs = self._model.predict_prepared([images[index] for index in indices], top, coverage)
            for index, (prediction, embedding) in zip(indices, outputs, strict=True):
                results[index] = prediction.to_dict()
                if options[index].embedding:
                    results[index]["embedding"] = embedding.tolist()
        return results

    def explain(self, image: np.ndarray) -> bytes:
        raise AssertionError("`preprocess` refuses explanations")
