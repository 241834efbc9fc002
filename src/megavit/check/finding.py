"""What a check finds: each a thing that a person should look at, told in a plain sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from megavit.config.target import joined
from megavit.data.dataset import Sample

Severity = Literal["serious", "look", "note"]
"""Mend it before anything is learned or measured; look at it; know it."""

Kind = Literal[
    "leak",
    "conflict",
    "unreadable",
    "label",
    "blank",
    "copy",
    "doubtful",
    "spelling",
    "missing",
    "few",
    "imbalance",
    "tiny",
    "aspect",
    "size",
    "channels",
    "alike",
    "unused",
]


class Meaning(NamedTuple):
    """Of a kind: how bad it is, its name for a person, and what to do about it."""

    severity: Severity
    title: str
    advice: str


KINDS: dict[Kind, Meaning] = {
    "leak": Meaning(
        "serious",
        "one picture in two splits",
        "Keep every picture in one split: what a model has learned from cannot show how good it is on new images.",
    ),
    "conflict": Meaning(
        "serious", "one picture with different labels", "Find out which is right, and remove the other copies."
    ),
    "unreadable": Meaning(
        "serious", "files that cannot be read", "Restore or remove them; until then they are left out."
    ),
    "label": Meaning(
        "serious",
        "labels that are probably wrong",
        "Look at the pictures, the first ones first, and mend what is wrong.",
    ),
    "blank": Meaning("look", "pictures with nothing in them", "They teach nothing that is true: remove them."),
    "copy": Meaning("look", "one picture several times", "Copies count double and bring nothing new: keep one."),
    "doubtful": Meaning("look", "labels in doubt", "Less sure than the labels above: look if there is time."),
    "spelling": Meaning(
        "look",
        "class names that look alike",
        "If they are meant to be one class, give its folders, or its lines in the table, one name.",
    ),
    "missing": Meaning(
        "look", "classes missing from a split", "How well they are told is not measured: add images to the split."
    ),
    "few": Meaning("look", "classes with few images", "Add images, or join the class with another."),
    "imbalance": Meaning(
        "look", "classes of very different size", "Add images to the small ones; megavit train makes up for some of it."
    ),
    "tiny": Meaning("look", "very small pictures", "See whether they are icons or broken thumbnails."),
    "aspect": Meaning("look", "very long or narrow pictures", "See whether they are strips or parts of others."),
    "size": Meaning("look", "sizes far from the others", "See whether they come from another source."),
    "channels": Meaning(
        "look", "gray among color, or other channels", "A model may take the difference for a trait of the class."
    ),
    "alike": Meaning("note", "classes that look alike", "More images of both, or clearer labels, would help."),
    "unused": Meaning("note", "files that are not used", "Nothing to do, unless they were meant to be images."),
}
"""Every kind, the most serious first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at.

    Attributes:
        kind: see `KINDS`.
        sentence: for a person; may hold the names of classes, never those of files.
        images: names of the files concerned, the one that others are compared with first; none for whole classes.
        suggested: the label that is likelier than the given one, if any.
        score: how sure or how much, the higher the worse, where there is such a figure: of copies the similarity in
            [0, 1], of labels the share of the other one in the probability of both, of imbalance the ratio.
    """

    kind: Kind
    sentence: str
    images: tuple[str, ...] = ()
    suggested: str = ""
    score: float | None = None

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "sentence": self.sentence,
            "images": list(self.images),
            "suggested": self.suggested or None,
            "score": self.score,
        }


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """By kind, as `KINDS` has them; within one by score, and where that is equal as they came."""
    rank = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda one: (rank[one.kind], -(one.score or 0.0)))


def label_of(sample: Sample, classes: Sequence[str]) -> str:
    """A sample's target as a table has it: the class, labels as `joined` has them, or the score."""
    match sample.target:
        case int() as label:
            return classes[label]
        case tuple() as labels:
            return joined(classes[label] for label in labels)
        case score:
            return f"{score:g}"
