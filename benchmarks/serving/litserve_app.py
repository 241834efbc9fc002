"""LitServe with a bundle of ours, written as its documentation writes one: for `benchmarks.serving.load`.

    python -m benchmarks.serving.litserve_app BUNDLE --port 8001 [--batch-size 32] [--workers 1] [--fixed-ms 20]

Images come as files of a form. Its loop with a batch waits for others; at a wait of 0 it asks its queue without end,
which costs a core, so that it gets the shortest one at which it does not.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import litserve  # pyrefly: ignore[missing-import]
import torch

import megavit
from megavit.data.image_dataset import make_batch

BATCH_WAIT = 0.005


class Api(litserve.LitAPI):
    def __init__(self, bundle: Path, workers: int, fixed: float, **options: Any) -> None:
        super().__init__(**options)
        self.bundle, self.workers, self.fixed = bundle, workers, fixed

    def setup(self, device: str) -> None:
        if self.workers > 1:
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // self.workers))
        self.predictor = megavit.load(self.bundle, device=device)

    def decode_request(self, request: litserve.Request) -> torch.Tensor:
        return self.predictor.prepare(request["images"].file.read())

    def batch(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return inputs

    def predict(self, x: torch.Tensor | list[torch.Tensor]) -> list[dict[str, Any]]:
        images = x if isinstance(x, list) else [x]
        if self.fixed:
            time.sleep(self.fixed)
            return [{"label": "", "probability": 1.0, "top": []} for _ in images]
        predictor = self.predictor
        output = predictor.forward(make_batch(images, predictor.info.preprocessing))
        return [
            prediction.to_dict() for prediction in predictor.calibrator.predictions(output, predictor.labels, 5, None)
        ]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
        return {"model": "m", "answers": output if isinstance(output, list) else [output]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fixed-ms", type=float, default=0.0, help="fixed time per batch, instead of a model")
    arguments = parser.parse_args()
    waits = {"batch_timeout": BATCH_WAIT} if arguments.batch_size > 1 else {}
    api = Api(
        arguments.bundle,
        arguments.workers,
        arguments.fixed_ms / 1000,
        max_batch_size=arguments.batch_size,
        **waits,
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=arguments.workers)
    server.run(host="127.0.0.1", port=arguments.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
