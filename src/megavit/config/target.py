"""What a model answers with: one class an image, several labels, or a score."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from megavit.config.checks import check_choice, check_range, is_number
from megavit.errors import ConfigError

TargetKind = Literal["classification", "multilabel", "regression"]
"""One class an image (softmax); any number of labels, each by itself (sigmoid); one number (regression)."""

LABEL_SEPARATOR = "|"
"""Between two labels in a cell of a table."""

_ESCAPED = re.compile(r"[\\|;]")
_PIECE = re.compile(r"\\[\\|;]|.", re.DOTALL)


def join_labels(labels: Iterable[str]) -> str:
    r"""Return labels as one cell of a table: "cat|indoors"; what parts labels is written \| within one."""
    return LABEL_SEPARATOR.join(_ESCAPED.sub(r"\\\g<0>", label) for label in labels)


def split_labels(cell: str, parting: str = LABEL_SEPARATOR) -> list[str]:
    r"""Return the labels of a cell, of which `join_labels` made it: without spaces around them, and without empty ones.

    Args:
        parting: the characters that part labels.
    """
    labels = [""]
    for piece in _PIECE.findall(cell):
        if piece in parting:
            labels.append("")
        else:
            labels[-1] += piece[-1]
    return [label.strip() for label in labels if label.strip()]


@dataclass(frozen=True, kw_only=True)
class Target:
    """How logits become answers.

    Attributes:
        kind: of the answers.
        thresholds: for "multilabel", the probability from which on each label is given, in (0, 1].
        mean, std: for "regression", of the training images' scores: the score is logit × std + mean.
        median: for "regression", of the same, which an answer must beat; None where it is not known, and then nor is
            the mean, as in a model of another library.
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
        # Scores are float32, which has no numbers far beyond these.
        check_range("std", self.std, 1e-30, 1e30)
