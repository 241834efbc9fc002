"""The records of a run: a line for each validation, and the results of fine-tuning."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

MetricName = Literal["accuracy", "balanced accuracy", "mean average precision", "R²"]


@dataclass(frozen=True)
class EpochRecord:
    """The figures of one validation: mostly at the end of an epoch, but not of each where they are short.

    Attributes:
        epoch: passes over the training images so far; whole at the end of one.
        step: optimizer steps so far.
        seconds: since the command began, pauses left out.
        train_loss: mean over the steps since the last record, of augmented images and smoothed labels; None
            where every one of them was skipped.
        val_loss: on the validation images: of classification the mean negative log-likelihood in nats, of multilabel
            the mean of it over the labels, of regression the smooth L1 of the standardized target.
        val_metric: the metric that the best epoch is chosen by, the higher the better, at most 1.
        metric: its name.
        attention_logit: the largest |q · k| / √K of the model, as it is trained, on a few validation images; None
            where it was no finite number.
        head_logit: the largest absolute value of its outputs for these images.
        learning_rate: of the last step.
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, for `megavit.config.serialization.from_dict`."""
        return asdict(self)


@dataclass(frozen=True)
class TuneResult:
    """The result of one fine-tuning method.

    Attributes:
        method: knn, probe, lora, last or all.
        value: of the metric, on the held-out images.
        seconds: that it took; knn and probe include the embeddings that they share.
        detail: what was chosen within it, or how long it was trained.
        baseline: the method that it was compared with, the best before it; None: not compared.
        p_value: the probability of such a gain by chance; None: not compared.
        is_better: significantly better than its baseline.
    """

    method: str
    value: float
    seconds: float
    detail: str
    baseline: str | None = None
    p_value: float | None = None
    is_better: bool = False


@dataclass(frozen=True, kw_only=True)
class TuneSummary:
    """The results of a fine-tuning, for the bundle and the report.

    Attributes:
        init: the pretrained weights.
        changes: sentences on what was changed of them to fit.
        metric: that methods are compared by.
        held_out: the images that they are compared on, in words.
        results: in the order in which the methods were tried.
        selected: the method whose weights the bundle has.
        reason: why it was selected.
    """

    init: str
    changes: list[str]
    metric: MetricName
    held_out: str
    results: list[TuneResult] = field(default_factory=list)
    selected: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)
