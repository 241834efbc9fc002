"""Who races: MegaVit, and each peer as documented and as tuned by `tune_peers.py`."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from benchmarks.learning.fashion import load
from benchmarks.learning.ours import megavit
from benchmarks.learning.peers import DOCUMENTED, Library, Peer, PeerRecipe
from benchmarks.learning.results import RESULTS, read_results


class Contender(Protocol):
    """One training run, a step at a time.

    Attributes:
        name: a key of `CONTENDERS`.
        description: its recipe, as JSON types.
        chosen: what it measured and chose by itself before training, such as the size of its model.
    """

    name: str
    description: dict[str, Any]
    chosen: dict[str, Any]

    def step(self, progress: float) -> None:
        """Train on one batch of 128, its preparation included; `progress` in [0, 1) is how much of the run is over."""
        ...

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of uint8 images (N, 1, 28, 28) that the weights it would ship classify rightly."""
        ...


def documented(library: Library, name: str, seed: int, _minutes: float) -> Peer:
    return Peer(name, DOCUMENTED[library], load().train, seed)


def tuned(library: Library, name: str, seed: int, minutes: float) -> Peer:
    return Peer(name, tuned_recipe(library, minutes), load().train, seed)


def tuned_recipe(library: Library, minutes: float) -> PeerRecipe:
    """The recipe that was best on the validation images, in the longest trial of it that was no longer than that."""
    results = read_results(RESULTS / "tune_peers.json")
    per_second = {int(patch): results["speed_up"] / seconds for patch, seconds in results["step_seconds"].items()}
    runs = [
        run
        for run in results["runs"]
        if run["recipe"]["library"] == library
        and run["steps"] <= minutes * 60 * per_second[run["recipe"]["patch_size"]] + 1
    ]
    if not runs:
        raise SystemExit(f"{library} has not been tuned yet; run python -m benchmarks.learning.tune_peers first")
    return PeerRecipe(**max(runs, key=lambda run: run["val_accuracy"])["recipe"])


CONTENDERS: dict[str, Callable[[str, int, float], Contender]] = {
    "megavit": megavit,
    "timm": partial(tuned, "timm"),
    "vit-pytorch": partial(tuned, "vit-pytorch"),
    "timm-documented": partial(documented, "timm"),
    "vit-pytorch-documented": partial(documented, "vit-pytorch"),
}


def make_contender(name: str, seed: int, minutes: float) -> Contender:
    """A fresh run of `minutes` by the contender of that name."""
    return CONTENDERS[name](name, seed, minutes)
