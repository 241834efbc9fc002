"""A bundle as a worker's backend: all of the server that knows `Predictor`, and PyTorch."""

import io
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from megavit.config.export_info import COVERAGES
from megavit.data.decode.tensor import decode_with_size
from megavit.data.image_dataset import as_batch, prepare, shrink
from megavit.engine.engine import PATIENCE_SECONDS, ModelOutput
from megavit.errors import BundleError
from megavit.explain.overlay import Box, draw_overlay, visible_box
from megavit.predict.predictor import load
from megavit.serve.settings import Options, WorkerSettings

SHOWN_SIDE = 1024
"""Pixels of an overlay's longer side, at most."""


@dataclass(frozen=True)
class Picture:
    """Of one image.

    Attributes:
        pixels: uint8 (channels, height, width), as the model takes it.
        shown: uint8 (C, H, W), as a person sees it; None where no explanation is asked for.
        box: the part of it that the model sees.
    """

    pixels: Tensor
    shown: Tensor | None
    box: Box


class PredictorBackend:
    """A bundle, computed by PyTorch or what `megavit.engine` finds faster; it has given its reference outputs."""

    batch_bytes = float("inf")  # they have the model's own size

    def __init__(self, settings: WorkerSettings) -> None:
        self._predictor = load(
            settings.source,
            device=settings.device,
            precision=settings.precision,
            keep_aspect=settings.keep_aspect,
            verify=True,
        )
        if not self._predictor.model.config.num_classes:
            raise BundleError(f"{settings.source} has no classifier, so there are no answers to serve")
        # A faster engine takes seconds to build: aside, so that nobody waits for it.
        self._predictor.engine.patience = float("inf")
        self._seconds, self._settling = 0.0, False

    def describe(self) -> dict[str, Any]:
        info, size = self._predictor.info, self._predictor.info.preprocessing
        return {
            "target": self._predictor.target,
            "labels": list(self._predictor.labels),
            "height": size.height,
            "width": size.width,
            "channels": size.channels,
            "coverages": [coverage for coverage in COVERAGES if self._predictor.calibrator.supports_coverage(coverage)],
            "explanation": True,
            "created": info.created,
        }

    def warm_up(self) -> float:
        size = self._predictor.info.preprocessing
        blank = Picture(torch.zeros(size.channels, size.height, size.width, dtype=torch.uint8), None, (0, 0, 1, 1))
        self.answer([blank], [Options()])
        began = time.perf_counter()
        self.answer([blank], [Options()])
        return time.perf_counter() - began

    def prepare(self, data: bytes, options: Options, max_pixels: int) -> Picture:
        if options.coverage is not None:
            self._predictor.calibrator.check_coverage(options.coverage)
        size = self._predictor.info.preprocessing
        decoded, whole = decode_with_size(data, size.decode_size, max_pixels)
        pixels = prepare(decoded, size.size_for(*whole), size)
        return Picture(pixels, shrink(decoded, SHOWN_SIDE) if options.explanation else None, visible_box(*whole, size))

    def size(self, picture: Picture) -> int:
        return picture.pixels.nbytes + (0 if picture.shown is None else picture.shown.nbytes)

    def answer(self, pictures: Sequence[Picture], options: Sequence[Options]) -> list[dict[str, Any]]:
        batch = as_batch([picture.pixels for picture in pictures], self._predictor.info.preprocessing)
        began = time.perf_counter()
        found = self._predictor.forward(batch)
        self._seconds += time.perf_counter() - began
        if self._seconds > PATIENCE_SECONDS and not self._settling:
            self._settling = True
            threading.Thread(target=self._predictor.engine.settle, args=[batch], daemon=True).start()
        alike: dict[tuple[int, float | None], list[int]] = defaultdict(list)
        for place, wanted in enumerate(options):
            alike[wanted.top, wanted.coverage].append(place)
        answers: list[dict[str, Any]] = [{} for _ in pictures]
        for (top, coverage), places in alike.items():
            part = ModelOutput(found.pooled[places], found.logits[places])
            predictions = self._predictor.calibrator.predictions(part, self._predictor.labels, top, coverage)
            for place, prediction in zip(places, predictions, strict=True):
                answers[place] = prediction.to_dict()
        for place, wanted in enumerate(options):
            if wanted.embedding:
                answers[place]["embedding"] = found.pooled[place].tolist()
        return answers

    def explain(self, picture: Picture) -> bytes:
        from megavit.explain.explanation import compute_maps

        assert picture.shown is not None
        (found,) = compute_maps(self._predictor.model, [picture.pixels], self._predictor.info.preprocessing)
        content = io.BytesIO()
        draw_overlay(found, picture.shown, picture.box).save(content, format="PNG")
        return content.getvalue()
