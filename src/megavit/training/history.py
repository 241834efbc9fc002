"""Records of a run: one per validation, and the results of fine-tuning."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

LabelMetric = Literal["accuracy", "balanced accuracy", "mean average precision", "R²"]
MetricName = LabelMetric | Literal["nearest-neighbor accuracy", "rank of embeddings"]

MAX_CLASSES_TOLD = 30
"""Largest number of classes that are listed in a sentence."""


class Validation(NamedTuple):
    """The result of a validation: loss, metric, and for embeddings their effective rank and standard deviation.

    A `warning` is for the user, if there is one.
    """

    loss: float
    metric: float
    effective_rank: float | None = None
    embedding_std: float | None = None
    warning: str = ""


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of one validation.

    Attributes:
        epoch: passes over the training images so far; integral at the end of an epoch.
        step: optimizer steps so far.
        seconds: time since the command began, excluding pauses.
        train_loss: mean loss over the steps since the last record, with augmentation and label smoothing; None if all
            steps were skipped.
        val_loss: loss on the validation images: mean negative log-likelihood in nats for classification and, averaged
            over labels, for multilabel; smooth L1 of the standardized target for regression.
        val_metric: metric that selects the best epoch; higher is better, at most 1.
        learning_rate: learning rate of the last step.
        metric: name of the metric.
        attention_logit: largest |q · k| / √K of the trained model on a few validation images; None if not finite.
        head_logit: largest absolute model output on these images; None if not finite.
        effective_rank: effective rank of the embeddings of the validation images, in pretraining only.
        embedding_std: mean standard deviation of their projections, 1 for normally distributed ones, likewise.
    """

    epoch: float
    step: int
    seconds: float
    train_loss: float | None
    val_loss: float
    val_metric: float
    learning_rate: float
    metric: MetricName = "accuracy"
    attention_logit: float | None = None
    head_logit: float | None = None
    effective_rank: float | None = None
    embedding_std: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TuneResult:
    """The result of one fine-tuning method.

    Attributes:
        method: knn, probe, lora, last or all.
        value: metric on the held-out images.
        seconds: duration; for knn and probe including the shared embeddings.
        detail: description of the selected settings or the length of training.
        baseline: best method so far, which this one is compared with; None if not compared.
        p_value: probability of such a gain by chance; None if not compared.
    """

    method: str
    value: float
    seconds: float
    detail: str
    baseline: str | None = None
    p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class PseudoLabelGain:
    """What pseudo-labels bring to a probe, in cross-validation on the labeled images for training and validation.

    Attributes:
        images: number of images, each predicted by a probe with and one without pseudo-labels that it did not train.
        without, with_labels: metric without and with pseudo-labels.
        loss_without, loss_with_labels: loss of the calibrated probabilities.
        gained, lost: number of images that only the probe with, and only the one without, predicts correctly.
        p_value: of McNemar's exact test that the probe with them is more often correct.
        is_better: whether they are used, because the metric is higher, or the loss lower at the same metric.
    """

    images: int
    metric: MetricName
    without: float
    with_labels: float
    loss_without: float
    loss_with_labels: float
    gained: int
    lost: int
    p_value: float
    is_better: bool


@dataclass(frozen=True, kw_only=True)
class PseudoLabelSummary:
    """What became of the images without labels, and what it brought.

    Attributes:
        source: where the images are.
        used: number of images by the class that they were given, used or, if the gain is none, not.
        refused: number of the other images by reason.
        gain: comparison by which they are used or not.
    """

    source: str
    used: dict[str, int]
    refused: dict[str, int]
    gain: PseudoLabelGain

    def describe(self) -> list[str]:
        """Return sentences on the number of images, and on what they brought."""
        gain, count, other = self.gain, sum(self.used.values()), sum(self.refused.values())
        per_class = ", ".join(f"{name} {number:,}" for name, number in [*self.used.items()][:MAX_CLASSES_TOLD])
        if len(self.used) > MAX_CLASSES_TOLD:
            per_class += f" and {len(self.used) - MAX_CLASSES_TOLD:,} other classes"
        reasons = "; ".join(f"{number:,} {reason}" for reason, number in self.refused.items())
        verb = "got" if gain.is_better else "would get"
        return [
            f"{count:,} of {count + other:,} images without labels {verb} a predicted one: {per_class or 'none'}",
            *([f"{other:,} refused: {reasons}"] if other else []),
            f"with them {gain.metric} {gain.with_labels:.1%} instead of {gain.without:.1%} in cross-validation on "
            f"{gain.images:,} labeled images ({gain.gained:,} more correct, {gain.lost:,} fewer; McNemar's exact test: "
            f"p = {gain.p_value:.2g}): they are {'used' if gain.is_better else 'not used, as that is not better'}",
        ]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TuneSummary:
    """The results of a fine-tuning, for the bundle and the report.

    Attributes:
        pretrained: pretrained weights, as in `megavit.config.recipe.ModelRecipe`.
        origin: place that the weights come from.
        license: their license; "" if unknown.
        changes: sentences on how the weights were adapted.
        held_out: description of the images that methods are compared on.
        results: results in the order in which the methods were tried.
        selected: method whose weights are in the bundle, for `reason`.
        pseudo_labels: what became of images without labels; None without any.
    """

    pretrained: str
    origin: str
    license: str
    changes: list[str]
    metric: MetricName
    held_out: str
    results: list[TuneResult] = field(default_factory=list)
    selected: str
    reason: str
    pseudo_labels: PseudoLabelSummary | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
