"""Write the report of a cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megavit.config.calibration import Calibration
from megavit.config.names import shell_quote
from megavit.evaluation.report.html import metrics_context, render_page
from megavit.evaluation.report.text import is_share
from megavit.evaluation.uncertainty.measure import UncertaintyMetrics
from megavit.training.report import figures
from megavit.training.report.baselines import BaselineSummary
from megavit.training.report.cross_validation import CrossValidation
from megavit.training.report.figures import LIGHT, Example
from megavit.training.report.report import (
    DataSummary,
    Scores,
    draw_results,
    reliability_pictures,
    sort_examples,
    target_context,
    write_page,
)


@dataclass(frozen=True, kw_only=True)
class FoldsReport:
    """The contents of the report of a cross-validation: as in `megavit.training.report.report.Report`."""

    title: str
    created: str
    data: DataSummary
    recipe_toml: str
    environment: Sequence[tuple[str, str]]
    cross_validation: CrossValidation
    uncertainty: UncertaintyMetrics
    examples: Sequence[Example]
    regression: Scores | None
    baselines: BaselineSummary | None
    bundle: str


def write_folds_report(folder: Path, report: FoldsReport) -> Path:
    """Write `folder/report.html` and `folder/figures/` atomically, or raise OutputError; return the page's path."""
    found, test = report.cross_validation, report.cross_validation.metrics
    wrong, correct = sort_examples(report.examples)
    drawings = draw_results(test, report.uncertainty, report.regression)
    if report.examples:
        drawings["examples.png"] = figures.draw_examples([*wrong, *correct], LIGHT)
    page = render_page(
        "report_folds.html.j2",
        "megavit.training.report",
        report=report,
        title=report.title,
        created=report.created,
        val=None,
        wrong=wrong,
        correct=correct,
        explained=False,
        is_share=is_share(found.metric),
        uncertainty=report.uncertainty,
        calibration=Calibration(),
        reliability=reliability_pictures(report.uncertainty),
        bundle_in_shell=shell_quote(report.bundle),
        bundle_in_python=repr(report.bundle),
        **metrics_context(test, folds=len(found.folds)),
        **target_context(test, report.regression),
    )
    return write_page(folder, page, drawings)
