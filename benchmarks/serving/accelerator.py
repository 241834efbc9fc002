"""What batching gains where a batch takes as long as one image: with a stand-in for an accelerator.

On processors a batch gains little by itself; the batcher is the same for both.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.client import multipart, request
from benchmarks.serving.contestants import ALONE, OURS, PEER, Contestant
from benchmarks.serving.fixed_worker import MODULE, SECONDS
from benchmarks.serving.processes import Served, free_port, litserve
from benchmarks.serving.rates import gains


def fixed(folder: Path, batch_size: int) -> Served:
    port = free_port()
    command = [sys.executable, "-m", MODULE, "--port", str(port), "--batch-size", str(batch_size)]
    return Served(command, "/health/ready", folder, port)


async def accelerated(
    bundle: Path, python: Path | None, images: Sequence[bytes], folder: Path, *, rounds: int, seconds: float
) -> dict[str, Any]:
    """Answers a second for each number of clients, with batches, without, and of LitServe; beside what could be."""
    plain = [request("/predict", image) for image in images]
    those = [
        Contestant(OURS, lambda: fixed(folder, 32), plain),
        Contestant(ALONE, lambda: fixed(folder, 1), plain),
    ]
    if python is not None:
        form = [request("/predict", *multipart([image])) for image in images]
        reported = ("--fixed-ms", str(SECONDS * 1000))
        those.append(Contestant(PEER, lambda: litserve(python, bundle, folder, *reported), form))
    return {"a_batch_takes_ms": SECONDS * 1000, "servers": await gains(those, rounds, seconds)}
