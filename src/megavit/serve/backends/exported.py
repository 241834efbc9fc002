"""An exported model as a worker's backend: NumPy and the runtime that it was exported for, without PyTorch."""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megavit.data.decode.image_file import read_image_file
from megavit.errors import ConfigError
from megavit.predict.exported_predictor import load_exported, to_input_channels
from megavit.serve.settings import Options, WorkerSettings


class ExportedBackend:
    """The model that `megavit export` wrote to a folder, to onnx or openvino; it resizes images itself."""

    batch_bytes: float = 16 * 2**20
    """Its graph begins with all of their pixels, in 32 bits: some 15 times as much."""

    def __init__(self, settings: WorkerSettings) -> None:
        if settings.device not in ("auto", "cpu") or settings.precision != "float32" or settings.keep_aspect:
            raise ConfigError(
                f"{settings.source} holds an exported model, which runs on the processor as it was exported: leave out "
                "--device, --precision and --keep-aspect, or give the bundle that it was made of"
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
        blank = np.zeros((info.height, info.width, info.channels), np.uint8)
        self.answer([blank], [Options()])
        began = time.perf_counter()
        self.answer([blank], [Options()])
        return time.perf_counter() - began

    def prepare(self, data: bytes, options: Options, max_pixels: int) -> np.ndarray:
        if options.explanation:
            raise ConfigError("an exported model gives no explanations: serve the bundle that it was made of")
        self._model.check_coverage(options.coverage)
        pixels, _ = read_image_file(data, self._model.info.preprocessing.decode_size, max_pixels)
        return to_input_channels(pixels, self._model.info)

    def size(self, picture: np.ndarray) -> int:
        return picture.nbytes

    def answer(self, pictures: Sequence[np.ndarray], options: Sequence[Options]) -> list[dict[str, Any]]:
        alike: dict[tuple[int, float | None], list[int]] = defaultdict(list)
        for place, wanted in enumerate(options):
            alike[wanted.top, wanted.coverage].append(place)
        answers: list[dict[str, Any]] = [{} for _ in pictures]
        for (top, coverage), places in alike.items():
            found = self._model.answer([pictures[place] for place in places], top, coverage)
            for place, (prediction, embedding) in zip(places, found, strict=True):
                answers[place] = prediction.to_dict()
                if options[place].embedding:
                    answers[place]["embedding"] = embedding.tolist()
        return answers

    def explain(self, picture: np.ndarray) -> bytes:
        raise AssertionError("`prepare` has refused it")
