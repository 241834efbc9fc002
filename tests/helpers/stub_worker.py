"""A worker whose model does what the bytes of an "image" say, for tests of what the server does about it.

`version`: of the bundle's megavit.json. `sleep S`, `hang`, `die`: so long, for ever, at once, while answering.
`die decoding`, `hang decoding`: while decoding. `bad`: no image. `print`: to all streams, from C too. `nan`: an answer
that is no number. Anything else is answered.
"""

import ctypes
import json
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megavit.errors import BundleError, ConfigError, ImageError
from megavit.serving.settings import PredictOptions, WorkerSettings
from megavit.serving.workers.worker import main


class Stub:
    max_batch_bytes = float("inf")

    def __init__(self, settings: WorkerSettings) -> None:
        self.said = json.loads((Path(settings.source) / "megavit.json").read_bytes())
        self.note: str | None = self.said.get("note")
        if "refused" in self.said:
            raise BundleError(self.said["refused"])
        if "dies" in self.said:
            os.kill(os.getpid(), signal.SIGKILL)
        if "stops" in self.said:  # as in a read of a disk that does not answer: no thread runs
            os.kill(os.getpid(), signal.SIGSTOP)
        if "hangs" in self.said:
            time.sleep(1000)
        time.sleep(float(self.said.get("takes", 0)))

    def describe(self) -> dict[str, Any]:
        return {
            "target": "classification",
            "labels": ["cat", "dog"],
            "height": 8,
            "width": 8,
            "channels": 3,
            "coverages": [],
            "explanation": True,
            "created": "2026-11-01T12:00:00+00:00",
        }

    def warm_up(self) -> float:
        return 1e-4

    def preprocess(self, data: bytes, options: PredictOptions, max_pixels: int) -> bytes:
        if options.coverage is not None:
            raise ConfigError("there is no coverage to be had")
        if data.startswith(b"bad"):
            raise ImageError("not an image")
        if data.startswith(b"die decoding"):
            ctypes.string_at(0)  # as a decoder in C dies
        if data.startswith(b"hang decoding"):
            time.sleep(1000)
        return data[:100]

    def nbytes(self, image: bytes) -> int:
        return len(image)

    def predict(self, images: Sequence[bytes], options: Sequence[PredictOptions]) -> list[dict[str, Any]]:
        return [self._predict(image, wanted) for image, wanted in zip(images, options, strict=True)]

    def explain(self, image: bytes) -> bytes:
        return b"heat map of " + image

    def _predict(self, image: bytes, options: PredictOptions) -> dict[str, Any]:
        word, *rest = image.split()[:2] or [b""]
        if word == b"sleep":
            time.sleep(float(rest[0]))
        elif word == b"hang":
            time.sleep(1000)
        elif word == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == b"print":
            print(image)  # noqa: T201
            os.write(1, image)
            os.write(2, image)
        elif word == b"nan":
            return {"score": math.nan}
        elif word == b"version":
            return {"label": self.said["version"], "probability": 1.0, "top": []}
        answer: dict[str, Any] = {"label": "cat", "probability": 1.0, "top": [{"label": "cat", "probability": 1.0}]}
        return answer | ({"embedding": [1.0, 2.0]} if options.embedding else {})


if __name__ == "__main__":
    main(Stub)
