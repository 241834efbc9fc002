"""Who is measured: a name, how it is started, and the requests that it understands for the same images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.client import multipart, request
from benchmarks.serving.processes import ServerProcess, start_litserve, start_megavit

OURS, UNBATCHED, PEER, PEER_WIDE = "megavit", "megavit, batch 1", "LitServe", "LitServe, a worker a core"
BATCH, QUEUE = 32, 128
"""What `megavit serve` takes when nothing is said."""


@dataclass(frozen=True)
class Contestant:
    name: str
    start: Callable[[], ServerProcess]
    requests: list[bytes]


def make_contestants(bundle: Path, images: Sequence[bytes], folder: Path, python: Path | None) -> list[Contestant]:
    """Ours, with and without batches, and LitServe where there is a Python that has it.

    LitServe's documentation advises a worker a core on processors; one worker is what ours has.
    """
    plain = [request("/predict", image) for image in images]
    found = [
        Contestant(OURS, lambda: start_megavit(bundle, folder), plain),
        Contestant(UNBATCHED, lambda: start_megavit(bundle, folder, "--max-batch-size", "1"), plain),
    ]
    if python is not None:
        form = [request("/predict", *multipart([image])) for image in images]
        found += [
            Contestant(PEER, lambda: start_litserve(python, bundle, folder), form),
            Contestant(PEER_WIDE, lambda: start_litserve(python, bundle, folder, "--workers", "2"), form),
        ]
    return found
