"""All that can be found out about a set of images, the worst first."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from megavit.check.exact_duplicates import copy_findings, exact_pairs
from megavit.check.files import file_findings
from megavit.check.finding import Finding, worst_first
from megavit.check.label_issues import LabelReview, OutOfFoldPredictions, review_labels
from megavit.check.near_duplicates import near_pairs
from megavit.check.quick_checks import Shapes, class_findings, shape_findings, shapes_of
from megavit.check.thumbnails import flat_findings, look_at
from megavit.data.dataset import LabeledImages

ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class CheckResult:
    """What `run_checks` found.

    Attributes:
        images: that were checked.
        shapes: their sizes and channels.
        findings: the worst first.
        judged: who judged the labels, and how well; None where nobody did.
    """

    images: LabeledImages
    shapes: Shapes
    findings: list[Finding]
    judged: LabelReview | None

    @property
    def serious(self) -> bool:
        """Whether there is something to mend before anything is learned or measured."""
        return any(finding.severity == "serious" for finding in self.findings)


def run_checks(images: LabeledImages, answers: OutOfFoldPredictions | None, tell: ProgressCallback) -> CheckResult:
    """Look for everything of `megavit.check.finding.KINDS`.

    Args:
        answers: predictions to judge the labels by; None: they are not judged.
        tell: told how it goes.

    Raises:
        DataError: where an image cannot be read any more.
    """
    looks = look_at(images, lambda done, total: tell("looking at images", done, total))
    exact = exact_pairs(images.samples)
    first = torch.ones(len(images.samples), dtype=torch.bool)
    first[torch.tensor([copy for _, copy, _ in exact], dtype=torch.int64)] = False
    near = near_pairs(looks, first, lambda done, total: tell("comparing images", done, total))
    judged = None if answers is None else review_labels(images, answers)
    findings = [
        *file_findings(images),
        # Pictures with nothing in them are copies of each other, which says no more than that.
        *copy_findings(images, [pair for pair in (*exact, *near) if not looks.flat[pair[0]]]),
        *flat_findings(images, looks),
        *class_findings(images),
        *shape_findings(images),
        *(judged.findings if judged else []),
    ]
    return CheckResult(images, shapes_of(images.samples), worst_first(findings), judged)
