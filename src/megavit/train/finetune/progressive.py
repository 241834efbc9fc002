"""Fine-tuning from the bottom up: rung after rung, as long as each is better than the best below by more than chance.

knn     the nearest neighbors' answers; measured only, since a bundle is one model
probe   a linear head on the frozen model's embeddings
lora    low-rank additions to its matrices
last    its last layers
all     all of it

Every trained rung starts from the weights that were given and the probe's head (arXiv 2202.10054: a new head would
distort the features first), so that a rung is worth what it is worth without those below. They are compared on the
same held-back images: those of validation, or, where these are few, all of training and validation in
cross-validation, since a few images cannot tell. The test images are never asked.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.evaluate.metrics.significance import SIGNIFICANCE_LEVEL, mcnemar_test, paired_bootstrap_test
from megavit.evaluate.probes.cross_validation import Fold
from megavit.evaluate.probes.knn import knn_predict, select_k
from megavit.evaluate.probes.linear_probe import LinearProbe, select_linear_probe
from megavit.train.history import MetricName
from megavit.train.loop.loop import Task
from megavit.train.loop.validation import measure_epoch
from megavit.train.optim.loss import in_float64, soft_targets


@dataclass(frozen=True)
class Rung:
    """What one rung came to.

    Attributes:
        name: knn, probe, lora, last or all.
        value: of the metric, on the images held back.
        seconds: of its own; of knn and probe with the embeddings they share.
        detail: what was chosen within it, or how long it is.
        against: the rung it was compared with, the best below; None: with none.
        chance: how often chance alone would bring such a gain; None: not compared.
    """

    name: str
    value: float
    seconds: float
    detail: str
    against: str | None = None
    chance: float | None = None

    @property
    def better(self) -> bool:
        """Than the one it was compared with, by more than chance."""
        return self.chance is not None and self.chance <= SIGNIFICANCE_LEVEL


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What came of a fine-tuning, for the bundle and the report.

    Attributes:
        init: the weights it began with.
        changed: sentences on what was changed of them to fit.
        metric: that rungs are compared by, and `images` how they were held back.
        rungs: in the order in which they were climbed.
        kept: the rung whose weights the bundle has.
        reason: why it ended there.
    """

    init: str
    changed: list[str]
    metric: MetricName
    images: str
    rungs: list[Rung] = field(default_factory=list)
    kept: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Frozen:
    """The pool as the frozen model sees it.

    Attributes:
        embeddings: (N, D) of every image of training and validation.
        targets: of these, as `megavit.data.targets.target_tensor` gives them.
        task: of the training images, on the CPU.
        bias: (outputs,) of a head to start from.
        seconds: that the embeddings took.
    """

    embeddings: Tensor
    targets: Tensor
    task: Task
    bias: Tensor
    seconds: float

    def measure(self, logits: Tensor, places: Tensor) -> float:
        """The metric of the logits of the images at `places`."""
        return measured(self.task, logits, self.targets[places])

    def soft(self, places: Tensor) -> Tensor:
        return soft_targets(self.targets[places], self.task.num_classes)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The task's; in float64, or the search for its least value would stumble over the rounding."""
        return in_float64(self.task.loss)(logits.double(), targets.double())


TrainRung = Callable[[str, list[LinearProbe], int], tuple[Tensor, float, str] | None]
"""Trains a rung from the probes' heads; (logits held back, seconds, detail), or None where there is no time.

Its last argument is how many rungs, this one included, may still come.
"""


def knn_rung(frozen: Frozen, divisions: list[Fold]) -> tuple[Rung, Tensor]:
    """k nearest neighbors, k chosen among the images learned from."""
    began, found, chosen = time.monotonic(), [], []
    standard = frozen.task.target

    def as_logits(answers: Tensor) -> Tensor:
        return (answers - standard.mean) / standard.std if standard.kind == "regression" else answers

    for learned, held in divisions:

        def metric(answers: Tensor, at: Tensor, learned: Tensor = learned) -> float:
            return frozen.measure(as_logits(answers), learned[at])

        own, targets = frozen.embeddings[learned], frozen.soft(learned)
        k = select_k(own, targets, frozen.targets[learned], metric)
        found.append(as_logits(knn_predict(own, targets, frozen.embeddings[held], k)))
        chosen.append(k)
    logits, places = torch.cat(found), held_back(divisions)
    seconds = frozen.seconds + time.monotonic() - began
    return Rung("knn", frozen.measure(logits, places), seconds, f"k = {_listed(chosen)}"), logits


def probe_rung(frozen: Frozen, divisions: list[Fold]) -> tuple[Rung, Tensor, list[LinearProbe]]:
    """A linear head, its penalty chosen among the images learned from; with one probe for each division."""
    began = time.monotonic()
    probes = [fit(frozen, one.train) for one in divisions]
    logits = torch.cat(
        [probe.logits(frozen.embeddings[one.held_out]) for probe, one in zip(probes, divisions, strict=True)]
    )
    seconds = frozen.seconds + time.monotonic() - began
    detail = f"penalty {_listed([probe.penalty for probe in probes])}"
    return Rung("probe", frozen.measure(logits, held_back(divisions)), seconds, detail), logits, probes


def fit(frozen: Frozen, learned: Tensor) -> LinearProbe:
    """The probe of the images at these places."""
    return select_linear_probe(
        frozen.embeddings[learned], frozen.soft(learned), frozen.targets[learned], frozen.loss, frozen.bias
    )


def climb(
    frozen: Frozen,
    divisions: list[Fold],
    rungs: tuple[str, ...],
    train: TrainRung,
    told: Callable[[Rung], None],
    *,
    to_the_end: bool,
) -> tuple[list[Rung], str, str]:
    """The rungs that were climbed, the one that is kept, and why.

    Args:
        divisions: one, or those of cross-validation.
        rungs: the trained ones to climb.
        train: see `TrainRung`.
        told: is told each as it comes.
        to_the_end: keep the last of `rungs`, whether or not it is better: it was asked for.
    """
    places = held_back(divisions)
    knn, _ = knn_rung(frozen, divisions)
    told(knn)
    best, logits, probes = probe_rung(frozen, divisions)
    told(best)
    found = [knn, best]
    for place, name in enumerate(rungs):
        came = train(name, probes, len(rungs) - place)
        if came is None:
            return found, best.name, f"there was no time left for {name}"
        chance = gain_by_chance(frozen, logits, came[0], places)
        rung = Rung(name, frozen.measure(came[0], places), came[1], came[2], best.name, chance)
        told(rung)
        found.append(rung)
        if not rung.better and not to_the_end:
            if rung.value <= best.value:
                return found, best.name, f"{name} is no better than {best.name}"
            return found, best.name, f"what {name} has over {best.name} may be chance (p = {chance:.2g})"
        best, logits = rung, came[0]
    if to_the_end:
        return found, best.name, "it was asked for"
    return found, best.name, "it is the last one"


def gain_by_chance(frozen: Frozen, before: Tensor, after: Tensor, places: Tensor) -> float:
    """How often chance would bring such a gain; 1 where there is none.

    Of classes, either the images that only one of the two has right may tell, or the likelihoods of all of them, which
    tell more where images are few; since it is the better of two chances, it counts twice (Bonferroni). Of other
    targets, the metric of images drawn anew.
    """
    targets, task = frozen.targets[places], frozen.task
    if measured(task, after, targets) < measured(task, before, targets):
        return 1.0
    if task.target.kind == "classification":
        right = mcnemar_test(before.argmax(dim=1) == targets, after.argmax(dim=1) == targets)
        gains = F.cross_entropy(before, targets, reduction="none") - F.cross_entropy(after, targets, reduction="none")
        likelier = paired_bootstrap_test(len(places), lambda drawn: gains[drawn].mean().item())
        return min(1.0, 2 * min(right, likelier))

    def gain(drawn: Tensor) -> float:
        return measured(task, after[drawn], targets[drawn]) - measured(task, before[drawn], targets[drawn])

    return paired_bootstrap_test(len(places), gain)


def measured(task: Task, logits: Tensor, targets: Tensor) -> float:
    return measure_epoch(task.metric, logits, targets, task.target)


def held_back(divisions: list[Fold]) -> Tensor:
    """Places of the images held back, in the order of the divisions."""
    return torch.cat([one.held_out for one in divisions])


def _listed(chosen: list[Any]) -> str:
    return ", ".join(f"{value:g}" for value in dict.fromkeys(chosen))


def describe(rung: Rung, metric: MetricName) -> str:
    """A line for a person."""
    value = f"{rung.value:{'.3f' if metric == 'R²' else '.1%'}}"
    against = "" if rung.chance is None else f"; better than {rung.against} by chance alone: p = {rung.chance:.2g}"
    return f"{rung.name:5}  {rung.seconds:6.1f} s  {metric} {value} on the images held back  ({rung.detail}){against}"
