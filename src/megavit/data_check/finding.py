"""Define the kinds of findings of a data check: severity, title and advice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from megavit.config.target import join_labels
from megavit.data.dataset import Sample

Severity = Literal["serious", "warning", "info"]
""""serious": fix before training or evaluating; "warning": look at it; "info": nothing to do."""

Kind = Literal[
    "leak",
    "label_conflict",
    "unreadable",
    "label_error",
    "blank",
    "duplicate",
    "possible_label_error",
    "similar_names",
    "missing_class",
    "few_images",
    "imbalance",
    "tiny",
    "aspect",
    "size",
    "channels",
    "confusable_classes",
    "unused",
]


class KindInfo(NamedTuple):
    severity: Severity
    title: str
    advice: str


KINDS: dict[Kind, KindInfo] = {
    "leak": KindInfo(
        "serious",
        "one image in two splits",
        "Keep every image in one split: images that a model was trained on cannot show how well it generalizes.",
    ),
    "label_conflict": KindInfo(
        "serious", "one image with different labels", "Find out which is right, and remove the other copies."
    ),
    "unreadable": KindInfo(
        "serious", "files that cannot be read", "Restore or remove them; until then they are skipped."
    ),
    "label_error": KindInfo(
        "serious",
        "labels that are probably wrong",
        "Look at the images, starting with the first, and correct the labels.",
    ),
    "blank": KindInfo("warning", "blank images", "A model cannot learn anything useful from them: remove them."),
    "duplicate": KindInfo("warning", "duplicate images", "Duplicates count double and add nothing new: keep one."),
    "possible_label_error": KindInfo(
        "warning", "labels that are possibly wrong", "Less certain than the labels above: look if there is time."
    ),
    "similar_names": KindInfo(
        "warning",
        "similar class names",
        "If they are meant to be one class, use the same name for its folders or table rows.",
    ),
    "missing_class": KindInfo(
        "warning", "classes missing from a split", "They are not evaluated there: add images to the split."
    ),
    "few_images": KindInfo("warning", "classes with few images", "Add images, or merge the class with another."),
    "imbalance": KindInfo(
        "warning", "imbalanced classes", "Add images to the small ones; megavit train compensates for some of it."
    ),
    "tiny": KindInfo("warning", "very small images", "Check whether they are icons or broken thumbnails."),
    "aspect": KindInfo("warning", "very long or narrow images", "Check whether they are strips or parts of others."),
    "size": KindInfo("warning", "unusual image sizes", "Check whether they come from another source."),
    "channels": KindInfo("warning", "unusual channels", "A model may learn the difference as a feature of the class."),
    "confusable_classes": KindInfo(
        "info", "classes that are hard to tell apart", "More images of both, or clearer labels, would help."
    ),
    "unused": KindInfo("info", "files that are not used", "Nothing to do, unless they were meant to be images."),
}
"""All kinds, the most serious first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of a data check.

    Attributes:
        kind: key in `KINDS`.
        message: text for users; may contain class names but never file names.
        images: names of the affected files, the reference image first; empty for findings about classes.
        suggested_label: label that is more probable than the given one; "" if there is none.
        score: severity within the kind, higher is worse: similarity of duplicates in [0, 1], relative probability of
            the suggested label, or ratio of an imbalance. None if the kind has no score.
    """

    kind: Kind
    message: str
    images: tuple[str, ...] = ()
    suggested_label: str = ""
    score: float | None = None

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON types."""
        return asdict(self) | {"severity": self.severity, "suggested_label": self.suggested_label or None}


def sort_by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings sorted by kind, as in `KINDS`, and within a kind by score, the worst first."""
    rank = {kind: i for i, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: (rank[finding.kind], -(finding.score or 0.0)))


def format_target(sample: Sample, classes: Sequence[str]) -> str:
    """Return a sample's target as in a table: class name, joined label names, or number."""
    match sample.target:
        case int() as label:
            return classes[label]
        case tuple() as labels:
            return join_labels(classes[label] for label in labels)
        case value:
            return f"{value:g}"
