"""A worker whose every batch takes the same time, as an accelerator's does until it is full; no model computes.

    python -m benchmarks.serving.fixed_worker --port 8001 [--batch-size 32]

serves one, for `benchmarks.serving.accelerator`; with a worker's settings as its argument it is that worker.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from megavit.serving.server import serve
from megavit.serving.settings import PredictOptions, Settings, WorkerSettings
from megavit.serving.workers.worker import main as run_worker

SECONDS = 0.02
MODULE = "benchmarks.serving.fixed_worker"


class FixedTimeBackend:
    """A backend, see `megavit.serving.backends.base.Backend`."""

    note: str | None = None
    max_batch_bytes = float("inf")

    def __init__(self, _: WorkerSettings) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {
            "target": "classification",
            "labels": ["any"],
            "height": 1,
            "width": 1,
            "channels": 3,
            "coverages": [],
            "explanation": False,
            "created": "2026-11-01T12:00:00+00:00",
        }

    def warm_up(self) -> float:
        return SECONDS

    def preprocess(self, data: bytes, options: PredictOptions, max_pixels: int) -> bytes:
        return data

    def nbytes(self, image: bytes) -> int:
        return len(image)

    def predict(self, images: Sequence[bytes], options: Sequence[PredictOptions]) -> list[dict[str, Any]]:
        time.sleep(SECONDS)
        return [{"label": "any", "probability": 1.0, "top": [{"label": "any", "probability": 1.0}]} for _ in images]

    def explain(self, image: bytes) -> bytes:
        return b""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    settings = Settings(port=arguments.port, max_batch_size=arguments.batch_size, worker_module=MODULE)
    with TemporaryDirectory() as folder:
        (Path(folder) / "megavit.json").write_text("{}")
        serve([("m", folder)], settings, lambda _address: None)


if __name__ == "__main__":
    if sys.argv[1].startswith("{"):
        run_worker(FixedTimeBackend)
    else:
        main()
