"""One line of a run's diary: what it cost up to a validation, and what it brought."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

MetricName = Literal["accuracy", "balanced accuracy", "mean average precision", "R²"]


@dataclass(frozen=True)
class EpochRecord:
    """Measured at a validation: mostly at the end of an epoch, but not of each where they are short.

    Attributes:
        epoch: passes over the training images so far; whole at the end of one.
        step: optimizer steps so far.
        seconds: since the command began, pauses left out.
        train_loss: mean over the steps since the last record, of augmented images and smoothed labels; None
            where every one of them was skipped.
        val_loss: on the validation images: for classes the mean negative log-likelihood in nats, for labels the
            mean of it over the labels, for a score the smooth L1 of the standardized score.
        val_metric: by which the best epoch is chosen, the higher the better, at most 1.
        metric: what that is.
        attention_logit: the largest |q · k| / √K of the model, as it is trained, on a few validation images; None
            where it was no finite number, and in runs of earlier versions.
        head_logit: the largest of its outputs, by size, of these.
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
        """As plain JSON types, for `megavit.config.serialization.from_dict`."""
        return asdict(self)
