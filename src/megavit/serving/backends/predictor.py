"""Serve bundles with PyTorch."""

import io
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from megavit.config.export_info import COVERAGES
from megavit.data.decode.tensor import decode_with_size
from megavit.data.image_dataset import limit_size, make_batch, preprocess
from megavit.engine.engine import PATIENCE_SECONDS, ModelOutput
from megavit.errors import BundleError, ConfigError
from megavit.explain.overlay import Box, draw_overlay, visible_box
from megavit.predict.predictor import load
from megavit.serving.backends.base import group_by_options, time_prediction
from megavit.serving.settings import PredictOptions, WorkerSettings

MAX_OVERLAY_SIDE = 1024
"""Longer side of an explanation in pixels."""


@dataclass(frozen=True)
class PreprocessedImage:
    """A preprocessed image, with the original if an explanation is requested.

    Attributes:
        pixels: uint8 (channels, height, width), the model's input.
        original: uint8 (C, H, W), the background of the explanation; None without one.
        box: part of the original that the model sees.
    """

    pixels: Tensor
    original: Tensor | None
    box: Box


class PredictorBackend:
    """A backend for a bundle that has passed its self-test."""

    max_batch_bytes = float("inf")  # images have a fixed size

    def __init__(self, settings: WorkerSettings) -> None:
        self._predictor = load(
            settings.source,
            device=settings.device,
            precision=settings.precision,
            keep_aspect=settings.keep_aspect,
            verify=True,
        )
        if not self._predictor.info.model.num_classes:
            raise BundleError(f"{settings.source} has no classifier, so there are no predictions to serve")
        self.note = self._predictor.slow_precision
        # A faster engine is built in the background, as it takes seconds.
        self._predictor.engine.patience = float("inf")
        self._seconds, self._building = 0.0, False
        self._computing = threading.Lock()

    def describe(self) -> dict[str, Any]:
        info, size = self._predictor.info, self._predictor.info.preprocessing
        return {
            "target": self._predictor.target,
            "labels": list(self._predictor.labels),
            "height": size.height,
            "width": size.width,
            "channels": size.channels,
            "coverages": [coverage for coverage in COVERAGES if self._predictor.calibrator.supports_coverage(coverage)],
            "explanation": not info.ensemble,
            "created": info.created,
        }

    def warm_up(self) -> float:
        size = self._predictor.info.preprocessing
        pixels = torch.zeros(size.channels, size.height, size.width, dtype=torch.uint8)
        return time_prediction(self, PreprocessedImage(pixels, None, (0, 0, 1, 1)))

    def preprocess(self, data: bytes, options: PredictOptions, max_pixels: int) -> PreprocessedImage:
        if options.coverage is not None:
            self._predictor.calibrator.check_coverage(options.coverage)
        if options.explanation and self._predictor.info.ensemble:
            raise ConfigError("an ensemble has no explanations: serve the run of one of its folds")
        size = self._predictor.info.preprocessing
        decoded, original_size = decode_with_size(data, size.decode_size, max_pixels)
        original = limit_size(decoded, MAX_OVERLAY_SIDE) if options.explanation else None
        return PreprocessedImage(
            preprocess(decoded, size.size_for(*original_size), size), original, visible_box(*original_size, size)
        )

    def nbytes(self, image: PreprocessedImage) -> int:
        return image.pixels.nbytes + (0 if image.original is None else image.original.nbytes)

    def predict(self, images: Sequence[PreprocessedImage], options: Sequence[PredictOptions]) -> list[dict[str, Any]]:
        batch = make_batch([image.pixels for image in images], self._predictor.info.preprocessing)
        with self._computing:
            started = time.perf_counter()
            output = self._predictor.forward(batch)
        self._seconds += time.perf_counter() - started
        if self._seconds > PATIENCE_SECONDS and not self._building:
            self._building = True
            choose = self._predictor.engine.choose_runtime
            threading.Thread(target=choose, args=[batch, self._computing], daemon=True).start()
        results: list[dict[str, Any]] = [{} for _ in images]
        for top, coverage, indices in group_by_options(options):
            selected = ModelOutput(output.pooled[indices], output.logits[indices])
            predictions = self._predictor.calibrator.predictions(selected, self._predictor.labels, top, coverage)
            for index, prediction in zip(indices, predictions, strict=True):
                results[index] = prediction.to_dict()
        for index, option in enumerate(options):
            if option.embedding:
                results[index]["embedding"] = output.pooled[index].tolist()
        return results

    def explain(self, image: PreprocessedImage) -> bytes:
        from megavit.explain.explanation import compute_maps

        assert image.original is not None
        (heat_map,) = compute_maps(self._predictor.model, [image.pixels], self._predictor.info.preprocessing)
        content = io.BytesIO()
        draw_overlay(heat_map, image.original, image.box).save(content, format="PNG")
        return content.getvalue()
