"""Progressive fine-tuning: try methods in order as long as there is time, and keep the best.

knn     nearest neighbors' labels; evaluated only
probe   linear head on frozen embeddings
last    last layers
lora    low-rank adaptation of the weight matrices
all     all layers

Methods after the probe start from the pretrained weights and the probe's head, since a new head would distort the
features (arXiv 2202.10054). All are compared on the same held-out images, never on test images.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from megavit.errors import TrainingError
from megavit.evaluation.metrics.significance import mcnemar_test, paired_bootstrap_test
from megavit.evaluation.probes.cross_validation import Fold
from megavit.evaluation.probes.knn import knn_predict, select_k
from megavit.evaluation.probes.linear_probe import LinearProbe, fit_linear_probes, select_linear_probe
from megavit.training.history import MetricName, TuneResult
from megavit.training.loop.validation import compute_metric
from megavit.training.optim.loss import in_float64
from megavit.training.task import Task

# A gain that chance explains more likely than not, as on a few images, is no reason to leave the probe. With 40 and 160
# images of CIFAR-10 to train on, 4.8 and 1.5 points were lost by such gains (p = 0.9 and 0.6).
MAX_P_VALUE = 0.5


@dataclass(frozen=True)
class FrozenFeatures:
    """The embeddings of the pretrained model, and the images on which methods are compared.

    Attributes:
        embeddings: (N, D) embeddings of all training and validation images.
        labels: their labels, from `megavit.data.targets.target_tensor`.
        task: task on the training images, on the CPU.
        bias: (outputs,) initial bias of the head.
        seconds: time that the embeddings took.
        split: the images that methods are trained on, and those that they are compared on.
        fit_student: function that fits a probe on the images at indices and on pseudo-labels; None without these.
    """

    embeddings: Tensor
    labels: Tensor
    task: Task
    bias: Tensor
    seconds: float
    split: Fold
    fit_student: Callable[[Tensor], LinearProbe] | None = None

    def evaluate(self, logits: Tensor) -> float:
        """Return the metric of the logits of the held-out images."""
        return self.compute_metric(logits, self.labels[self.split.held_out])

    def held_out_loss(self, logits: Tensor) -> float:
        """Return the loss of the logits of the held-out images."""
        return self.compute_loss(logits, self.task.soft_targets(self.labels[self.split.held_out])).item()

    def compute_metric(self, logits: Tensor, labels: Tensor) -> float:
        return compute_metric(self.task.metric, logits, labels, self.task.target)

    def compute_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the task's loss in float64, so that rounding does not disturb the probe's optimization."""
        return in_float64(self.task.loss)(logits.double(), targets.double())

    def fit_probe(self, indices: Tensor, penalty: float | None = None) -> LinearProbe:
        """Return a linear probe fitted on the images at `indices`, with the best penalty unless one is given.

        With pseudo-labels, the penalty is the one chosen for them.
        """
        if self.fit_student is not None:
            return self.fit_student(indices)
        embeddings, labels = self.embeddings[indices], self.labels[indices]
        soft_targets = self.task.soft_targets(labels)
        if penalty is not None:
            return fit_linear_probes(embeddings, soft_targets, self.compute_loss, self.bias, (penalty,))[0]
        return select_linear_probe(embeddings, soft_targets, labels, self.compute_loss, self.bias)


TrainMethod = Callable[[str, LinearProbe], tuple[Tensor, float, str] | None]
"""Function of (method, probe to start from) to (held-out logits, seconds, detail), or None if no time is left."""


@dataclass(frozen=True)
class Selection:
    """The results in order, the selected method, the reason, and the probe that methods started from."""

    results: list[TuneResult]
    method: str
    reason: str
    probe: LinearProbe


def progressive_finetune(
    frozen: FrozenFeatures,
    methods: tuple[str, ...],
    train: TrainMethod,
    report: Callable[[TuneResult], None],
    *,
    requested: str | None = None,
) -> Selection:
    """Return the results of the probe and of those `methods` that there is time for, and the best of them.

    The best has the highest metric and, of equal ones, the lowest loss, but the probe is left only for a gain that
    chance does not explain as likely as not; a `requested` method is only left if the probe has a higher metric. A
    method that diverges is left out. Each result is passed to `report`.
    """
    results = [evaluate_knn(frozen)]
    report(results[0])
    best, logits, probe = evaluate_probe(frozen)
    results.append(best)
    report(best)
    missing = ""
    failures: list[str] = []
    for method in methods:
        try:
            trained = train(method, probe)
        except TrainingError as error:
            failures.append(f"{method} failed, as {error}")
            continue
        if trained is None:
            missing = method
            break
        new_logits, seconds, detail = trained
        p_value = compute_p_value(frozen, logits, new_logits)
        result = TuneResult(method, frozen.evaluate(new_logits), seconds, detail, best.method, p_value)
        results.append(result)
        report(result)
        if method == requested:
            is_better = result.value >= best.value
        else:
            gains = (result.value, -frozen.held_out_loss(new_logits)), (best.value, -frozen.held_out_loss(logits))
            is_better = gains[0] > gains[1] and (best.method != "probe" or p_value < MAX_P_VALUE)
        if is_better:
            best, logits = result, new_logits
    notes = [*failures, *([f"there was no time left for {missing}"] if missing else [])]
    return Selection(results, best.method, _explain(results, best, requested, notes), probe)


def _explain(results: list[TuneResult], best: TuneResult, requested: str | None, notes: list[str]) -> str:
    """Return why the `best` result is selected, with `notes` on methods that have none."""
    if best.method == requested:
        return "it was requested"
    reasons = []
    if requested is not None and results[-1].method == requested:
        reasons = [f"{requested} was requested, but is worse on the held-out images"]
    elif best.method != "probe":
        reasons = ["it is the best on the held-out images"]
    elif results[-1].method != "probe":
        reasons = ["no other method is better on the held-out images by more than chance explains"]
    return "; ".join([*reasons, *notes])


def evaluate_knn(frozen: FrozenFeatures) -> TuneResult:
    """Return the result of k-nearest neighbors, with k chosen by cross-validation on the training images."""
    began, target = time.monotonic(), frozen.task.target

    def to_logits(votes: Tensor) -> Tensor:
        return (votes - target.mean) / target.std if target.kind == "regression" else votes

    train, held_out = frozen.split
    embeddings, labels = frozen.embeddings[train], frozen.labels[train]
    soft_targets = frozen.task.soft_targets(labels)

    def metric(votes: Tensor, indices: Tensor) -> float:
        return frozen.compute_metric(to_logits(votes), labels[indices])

    k = select_k(embeddings, soft_targets, labels, metric)
    logits = to_logits(knn_predict(embeddings, soft_targets, frozen.embeddings[held_out], k))
    return TuneResult("knn", frozen.evaluate(logits), frozen.seconds + time.monotonic() - began, f"k = {k}")


def evaluate_probe(frozen: FrozenFeatures) -> tuple[TuneResult, Tensor, LinearProbe]:
    """Return the result of a linear probe, its held-out logits, and the probe."""
    began = time.monotonic()
    probe = frozen.fit_probe(frozen.split.train)
    logits = probe.logits(frozen.embeddings[frozen.split.held_out])
    seconds = frozen.seconds + time.monotonic() - began
    return TuneResult("probe", frozen.evaluate(logits), seconds, f"penalty {probe.penalty:g}"), logits, probe


def compute_p_value(frozen: FrozenFeatures, before: Tensor, after: Tensor) -> float:
    """Return the p-value of the gain of held-out logits `after` over `before`; 1 if there is no gain.

    For classes it is the smaller of two tests, of accuracies and likelihoods, with Bonferroni correction; otherwise a
    bootstrap test of the metric.
    """
    labels = frozen.labels[frozen.split.held_out]
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
