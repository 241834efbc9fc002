"""Progressive fine-tuning: try methods in order while each is significantly better than the best before it.

knn     nearest neighbors' labels; evaluated only
probe   linear head on frozen embeddings
lora    low-rank adaptation of the weight matrices
last    last layers
all     all layers

Methods after the probe start from the pretrained weights and the probe's head, since a new head would distort the
features (arXiv 2202.10054). All are compared on the same held-out images: the validation images or, if these are few,
training and validation images in cross-validation. The test images are never used.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.evaluate.metrics.significance import SIGNIFICANCE_LEVEL, mcnemar_test, paired_bootstrap_test
from megavit.evaluate.probes.cross_validation import Fold
from megavit.evaluate.probes.knn import knn_predict, select_k
from megavit.evaluate.probes.linear_probe import LinearProbe, select_linear_probe
from megavit.train.history import MetricName, TuneResult
from megavit.train.loop.validation import compute_metric
from megavit.train.optim.loss import in_float64
from megavit.train.task import Task


@dataclass(frozen=True)
class FrozenFeatures:
    """The embeddings of the pretrained model, and the folds on which methods are compared.

    Attributes:
        embeddings: (N, D) embeddings of all training and validation images.
        labels: their labels, from `megavit.data.targets.target_tensor`.
        task: task on the training images, on the CPU.
        bias: (outputs,) initial bias of the head.
        seconds: time that the embeddings took.
    """

    embeddings: Tensor
    labels: Tensor
    task: Task
    bias: Tensor
    seconds: float
    folds: list[Fold]

    @property
    def held_out(self) -> Tensor:
        """Indices of the held-out images, in the order of the folds."""
        return torch.cat([fold.held_out for fold in self.folds])

    def evaluate(self, logits: Tensor) -> float:
        """Return the metric of the logits of the held-out images."""
        return self.compute_metric(logits, self.labels[self.held_out])

    def compute_metric(self, logits: Tensor, labels: Tensor) -> float:
        return compute_metric(self.task.metric, logits, labels, self.task.target)

    def compute_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the task's loss in float64, so that rounding does not disturb the probe's optimization."""
        return in_float64(self.task.loss)(logits.double(), targets.double())

    def fit_probe(self, indices: Tensor) -> LinearProbe:
        """Return a linear probe fitted on the images at `indices`."""
        labels = self.labels[indices]
        soft_targets = self.task.soft_targets(labels)
        return select_linear_probe(self.embeddings[indices], soft_targets, labels, self.compute_loss, self.bias)


TrainMethod = Callable[[str, list[LinearProbe], int], tuple[Tensor, float, str] | None]
"""Function of (method, probes to start from, number of methods left including this one).

Returns (held-out logits, seconds, detail), or None if no time is left.
"""


@dataclass(frozen=True)
class Selection:
    """The results in order, the selected method, and the reason."""

    results: list[TuneResult]
    method: str
    reason: str


def progressive_finetune(
    frozen: FrozenFeatures,
    methods: tuple[str, ...],
    train: TrainMethod,
    report: Callable[[TuneResult], None],
    *,
    keep_last: bool,
) -> Selection:
    """Return the results of the probe and then of `methods`, and the selected method.

    Each result is passed to `report`. With `keep_last` the last of `methods` is selected even if it is not better.
    """
    results = [evaluate_knn(frozen)]
    report(results[0])
    best, logits, probes = evaluate_probe(frozen)
    results.append(best)
    report(best)
    for index, method in enumerate(methods):
        trained = train(method, probes, len(methods) - index)
        if trained is None:
            return Selection(results, best.method, f"there was no time left for {method}")
        new_logits, seconds, detail = trained
        p_value = compute_p_value(frozen, logits, new_logits)
        result = TuneResult(
            method,
            frozen.evaluate(new_logits),
            seconds,
            detail,
            best.method,
            p_value,
            is_better=p_value <= SIGNIFICANCE_LEVEL,
        )
        results.append(result)
        report(result)
        if not result.is_better and not keep_last:
            if result.value <= best.value:
                return Selection(results, best.method, f"{method} is no better than {best.method}")
            reason = f"the gain of {method} over {best.method} may be chance (p = {p_value:.2g})"
            return Selection(results, best.method, reason)
        best, logits = result, new_logits
    return Selection(results, best.method, "it was requested" if keep_last else "it is the last method")


def evaluate_knn(frozen: FrozenFeatures) -> TuneResult:
    """Return the result of k-nearest neighbors, with k chosen on the training images of each fold."""
    began, target = time.monotonic(), frozen.task.target
    logits: list[Tensor] = []
    chosen: list[int] = []

    def to_logits(votes: Tensor) -> Tensor:
        return (votes - target.mean) / target.std if target.kind == "regression" else votes

    for train, held_out in frozen.folds:
        embeddings, labels = frozen.embeddings[train], frozen.labels[train]
        soft_targets = frozen.task.soft_targets(labels)

        def metric(votes: Tensor, indices: Tensor, labels: Tensor = labels) -> float:
            return frozen.compute_metric(to_logits(votes), labels[indices])

        k = select_k(embeddings, soft_targets, labels, metric)
        logits.append(to_logits(knn_predict(embeddings, soft_targets, frozen.embeddings[held_out], k)))
        chosen.append(k)
    value = frozen.evaluate(torch.cat(logits))
    return TuneResult("knn", value, frozen.seconds + time.monotonic() - began, f"k = {_join(chosen)}")


def evaluate_probe(frozen: FrozenFeatures) -> tuple[TuneResult, Tensor, list[LinearProbe]]:
    """Return the result of linear probes, their held-out logits, and one probe per fold."""
    began = time.monotonic()
    probes = [frozen.fit_probe(fold.train) for fold in frozen.folds]
    logits = torch.cat(
        [probe.logits(frozen.embeddings[fold.held_out]) for probe, fold in zip(probes, frozen.folds, strict=True)]
    )
    seconds = frozen.seconds + time.monotonic() - began
    detail = f"penalty {_join([probe.penalty for probe in probes])}"
    return TuneResult("probe", frozen.evaluate(logits), seconds, detail), logits, probes


def compute_p_value(frozen: FrozenFeatures, before: Tensor, after: Tensor) -> float:
    """Return the p-value of the gain of held-out logits `after` over `before`; 1 if there is no gain.

    For classes it is the smaller of two tests, of accuracies and likelihoods, with Bonferroni correction; otherwise a
    bootstrap test of the metric.
    """
    labels = frozen.labels[frozen.held_out]
    if frozen.compute_metric(after, labels) < frozen.compute_metric(before, labels):
        return 1.0
    if frozen.task.target.kind == "classification":
        by_accuracy = mcnemar_test(before.argmax(dim=1) == labels, after.argmax(dim=1) == labels)
        gains = F.cross_entropy(before, labels, reduction="none") - F.cross_entropy(after, labels, reduction="none")
        by_likelihood = paired_bootstrap_test(len(labels), lambda indices: gains[indices].mean().item())
        return min(1.0, 2 * min(by_accuracy, by_likelihood))

    def gain(indices: Tensor) -> float:
        return frozen.compute_metric(after[indices], labels[indices]) - frozen.compute_metric(
            before[indices], labels[indices]
        )

    return paired_bootstrap_test(len(labels), gain)


def describe(result: TuneResult, metric: MetricName) -> str:
    """Return a one-line description of a result for the user."""
    value = f"{result.value:{'.3f' if metric == 'R²' else '.1%'}}"
    test = "" if result.p_value is None else f"; p = {result.p_value:.2g} against {result.baseline}"
    return f"{result.method:5}  {result.seconds:6.1f} s  {metric} {value} on held-out images  ({result.detail}){test}"


def _join(values: list[Any]) -> str:
    return ", ".join(f"{value:g}" for value in dict.fromkeys(values))
