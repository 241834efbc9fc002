"""Run all checks of a data set."""

from dataclasses import dataclass

import torch

from megavit.data.dataset import LabeledImages
from megavit.data.scan import NamedProgress
from megavit.data_check.exact_duplicates import duplicate_findings, find_exact_duplicates
from megavit.data_check.finding import Finding, sort_by_severity
from megavit.data_check.label_issues import LabelReview, OutOfFoldPredictions, review_labels
from megavit.data_check.near_duplicates import find_near_duplicates
from megavit.data_check.quick_checks import (
    ImageStatistics,
    class_findings,
    file_findings,
    shape_findings,
    summarize_shapes,
)
from megavit.data_check.thumbnails import blank_findings, load_thumbnails


@dataclass(frozen=True)
class CheckResult:
    """The result of a data check.

    Attributes:
        findings: what was found, the worst first.
        label_review: what was found of the labels; None if they were not checked.
        skip_reason: why the labels were not checked; "" if they were.
    """

    images: LabeledImages
    shapes: ImageStatistics
    findings: list[Finding]
    label_review: LabelReview | None
    skip_reason: str = ""

    @property
    def is_serious(self) -> bool:
        """Whether there is something to fix before training or evaluating."""
        return any(finding.severity == "serious" for finding in self.findings)


def run_checks(images: LabeledImages, predictions: OutOfFoldPredictions | None, progress: NamedProgress) -> CheckResult:
    """Return the result of all checks in `megavit.data_check.finding.KINDS`; of labels only if there are predictions.

    Raises:
        DataError: if an image can no longer be read.
    """
    thumbnails = load_thumbnails(images, lambda done, total: progress("reading images", done, total))
    exact = find_exact_duplicates(images.samples)
    distinct = torch.ones(len(images.samples), dtype=torch.bool)
    distinct[torch.tensor([pair.second for pair in exact], dtype=torch.int64)] = False
    near = find_near_duplicates(thumbnails, distinct, lambda done, total: progress("comparing images", done, total))
    # Blank images are always duplicates of each other.
    duplicates = [pair for pair in (*exact, *near) if not thumbnails.blank[pair.first]]
    review = None if predictions is None else review_labels(images, predictions)
    findings = [
        *file_findings(images),
        *duplicate_findings(images, duplicates),
        *blank_findings(images, thumbnails),
        *class_findings(images),
        *shape_findings(images),
        *(review.findings if review else []),
    ]
    return CheckResult(images, summarize_shapes(images.samples), sort_by_severity(findings), review)
