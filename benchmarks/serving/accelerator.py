"""What batching gains where a batch takes as long as one image: with a stand-in for an accelerator.

On processors a batch gains little by itself; the batcher is the same for both.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.client import multipart, request
from benchmarks.serving.contestants import OURS, PEER, UNBATCHED, Contestant
from benchmarks.serving.fixed_worker import MODULE, SECONDS
from benchmarks.serving.processes import ServerProcess, free_port, start_litserve
from benchmarks.serving.rates import measure_batching_gain


def start_fixed(folder: Path, batch_size: int) -> ServerProcess:
    port = free_port()
    command = [sys.executable, "-m", MODULE, "--port", str(port), "--batch-size", str(batch_size)]
    return ServerProcess(command, "/health/ready", folder, port)


async def measure_accelerator(
    bundle: Path, python: Path | None, images: Sequence[bytes], folder: Path, *, rounds: int, seconds: float
) -> dict[str, Any]:
    """Answers a second for each number of clients, with batches, without, and of LitServe; beside what could be."""
    plain = [request("/predict", image) for image in images]
    contestants = [
        Contestant(OURS, lambda: start_fixed(folder, 32), plain),
        Contestant(UNBATCHED, lambda: start_fixed(folder, 1), plain),
    ]
    if python is not None:
        form = [request("/predict", *multipart([image])) for image in images]
        fixed_time = ("--fixed-ms", str(SECONDS * 1000))
        contestants.append(Contestant(PEER, lambda: start_litserve(python, bundle, folder, *fixed_time), form))
    return {"a_batch_takes_ms": SECONDS * 1000, "servers": await measure_batching_gain(contestants, rounds, seconds)}
