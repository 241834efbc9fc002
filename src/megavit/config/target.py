"""Describe what a model predicts: one class, several labels, or a score."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from megavit.config.checks import check_choice, check_range, is_number
from megavit.errors import ConfigError

TargetKind = Literal["classification", "multilabel", "regression"]
"""One class per image (softmax), any number of independent labels (sigmoid), or one number (regression)."""

LABEL_SEPARATOR = "|"

_ESCAPED = re.compile(r"[\\|;]")
_CHARACTER = re.compile(r"\\[\\|;]|.", re.DOTALL)


def join_labels(labels: Iterable[str]) -> str:
    r"""Return labels as one table cell, such as "cat|indoors"; separators within a label are escaped as \|."""
    return LABEL_SEPARATOR.join(_ESCAPED.sub(r"\\\g<0>", label) for label in labels)


def split_labels(cell: str, separators: str = LABEL_SEPARATOR) -> list[str]:
    """Split a cell made by `join_labels` at any character of `separators` into stripped labels without empty ones."""
    labels = [""]
    for character in _CHARACTER.findall(cell):
        if character in separators:
            labels.append("")
        else:
            labels[-1] += character[-1]
    return [label.strip() for label in labels if label.strip()]


@dataclass(frozen=True, kw_only=True)
class Target:
    """The conversion of logits to predictions.

    Attributes:
        kind: kind of prediction.
        thresholds: probability in (0, 1] from which each label is assigned, for "multilabel".
        mean, std: statistics of the training images' scores, for "regression": the score is logit × std + mean.
        median: median of the training images' scores, the baseline for "regression"; None if it and the mean are
            unknown, as in a model of another library.
    """

    kind: TargetKind = "classification"
    thresholds: list[float] = field(default_factory=list)
    mean: float = 0.0
    std: float = 1.0
    median: float | None = 0.0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(TargetKind))
        for threshold in self.thresholds:
            if not is_number(threshold) or not 0 < threshold <= 1:
                raise ConfigError(f"thresholds must be numbers in (0, 1], got {threshold!r}")
        for name in ("mean", "median"):
            if name == "median" and self.median is None:
                continue
            check_range(name, getattr(self, name), -1e30, 1e30)
        # Scores are float32, which would overflow far beyond these limits.
        check_range("std", self.std, 1e-30, 1e30)
