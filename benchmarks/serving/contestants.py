"""Who is measured: a name, how it is started, and the requests that it understands for the same images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.client import multipart, request
from benchmarks.serving.processes import Served, litserve, ours

OURS, ALONE, PEER, PEER_WIDE = "megavit", "megavit, batch 1", "LitServe", "LitServe, a worker a core"
BATCH, QUEUE = 32, 128
"""What `megavit serve` takes when nothing is said."""


@dataclass(frozen=True)
class Contestant:
    name: str
    start: Callable[[], Served]
    requests: list[bytes]


def contestants(bundle: Path, images: Sequence[bytes], folder: Path, python: Path | None) -> list[Contestant]:
    """Ours, with and without batches, and LitServe where there is a Python that has it.

    LitServe's documentation advises a worker a core on processors; one worker is what ours has.
    """
    plain = [request("/predict", image) for image in images]
    found = [
        Contestant(OURS, lambda: ours(bundle, folder), plain),
        Contestant(ALONE, lambda: ours(bundle, folder, "--max-batch-size", "1"), plain),
    ]
    if python is not None:
        form = [request("/predict", *multipart([image])) for image in images]
        found += [
            Contestant(PEER, lambda: litserve(python, bundle, folder), form),
            Contestant(PEER_WIDE, lambda: litserve(python, bundle, folder, "--workers", "2"), form),
        ]
    return found
