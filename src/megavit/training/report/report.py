"""Write the report of a training run: a self-contained HTML file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from megavit.config.calibration import Calibration
from megavit.config.names import shell_quote
from megavit.evaluation.metrics.classification import MAX_NAMED_CLASSES, ClassificationMetrics, list_confusions
from megavit.evaluation.metrics.dispatch import Metrics
from megavit.evaluation.metrics.multilabel import MultilabelMetrics
from megavit.evaluation.metrics.regression import RegressionMetrics
from megavit.evaluation.report.html import metrics_context, number, percent, render_page, write_report_file
from megavit.evaluation.uncertainty.measure import UncertaintyMetrics
from megavit.page.inline import data_uri
from megavit.training.history import EpochRecord, TuneSummary
from megavit.training.report import figures
from megavit.training.report.baselines import BaselineSummary
from megavit.training.report.figures import DARK, LIGHT, Example, Palette

Scores = tuple[Sequence[float], Sequence[float]]
"""The true and the predicted values of images, for regression."""

_MAX_EXAMPLES = 12
"""Maximum number of wrong, and of correct, examples."""


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """A summary of the dataset.

    Attributes:
        division: sentence on how the images were split.
        counts: number of images by split, then by class or label.
        images: number of images by split.
        skipped: number of skipped files by reason.
        findings: sentences on potential problems.
    """

    source: str
    division: str
    counts: Mapping[str, Mapping[str, int]]
    images: Mapping[str, int]
    skipped: Mapping[str, int]
    findings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """The contents of the report; text from the user's files is escaped.

    Attributes:
        created: ISO 8601 time.
        model: (name, value) pairs, such as image size and number of parameters.
        recipe_toml: resolved recipe.
        environment: (name, value) pairs, such as device, versions, precision and duration.
        history: one record per validation; may be empty.
        test: metrics on the test images, which no choice was based on.
        val: metrics on the validation images, which the epoch was chosen by; of the same type as `test`.
        uncertainty: metrics of the calibration on the test images.
        examples: wrong and correct examples from the test images.
        regression: (true, predicted) values of the test images, for regression.
        tuning: results of fine-tuning, if the run started from pretrained weights.
        baselines: results of simple baselines on the test images, for classification.
        bundle: path of the bundle, for the usage examples.
    """

    title: str
    created: str
    data: DataSummary
    model: Sequence[tuple[str, str]]
    recipe_toml: str
    environment: Sequence[tuple[str, str]]
    history: Sequence[EpochRecord]
    test: Metrics
    val: Metrics | None
    calibration: Calibration
    uncertainty: UncertaintyMetrics
    examples: Sequence[Example]
    regression: Scores | None = None
    tuning: TuneSummary | None = None
    baselines: BaselineSummary | None = None
    bundle: str


def write_report(folder: Path, report: Report) -> Path:
    """Write `folder/report.html` and `folder/figures/` atomically, or raise OutputError; return the path of the page.

    The page embeds its images and styles, follows the reader's light or dark setting, and forbids scripts and external
    requests. Figures without data are not written.
    """
    wrong, correct = sort_examples(report.examples)
    drawings = draw_results(report.test, report.uncertainty, report.regression)
    if report.history:
        drawings["curves.png"] = figures.draw_curves(report.history, LIGHT)
    if report.examples:
        drawings["examples.png"] = figures.draw_examples([*wrong, *correct], LIGHT)
    page = render_page(
        "report.html.j2",
        "megavit.training.report",
        report=report,
        title=report.title,
        created=report.created,
        val=report.val,
        wrong=wrong,
        correct=correct,
        explained=any(example.overlay is not None for example in report.examples),
        curves=_curves(report.history),
        uncertainty=report.uncertainty,
        calibration=report.calibration,
        reliability=reliability_pictures(report.uncertainty),
        bundle_in_shell=shell_quote(report.bundle),
        bundle_in_python=repr(report.bundle),
        **metrics_context(report.test),
        **target_context(report.test, report.regression),
    )
    return write_page(folder, page, drawings)


def write_page(folder: Path, page: bytes, drawings: Mapping[str, Figure]) -> Path:
    """Write `folder/report.html` and its drawings into `folder/figures/`; return the path of the page."""
    for name, figure in drawings.items():
        write_report_file(folder / "figures" / name, figures.png(figure))
    return write_report_file(folder / "report.html", page)


def draw_results(test: Metrics, uncertainty: UncertaintyMetrics, regression: Scores | None) -> dict[str, Figure]:
    """Return the drawings of the metrics by file name."""
    drawings: dict[str, Figure] = {}
    if isinstance(test, ClassificationMetrics):
        drawings["confusion.png"] = figures.draw_confusion(test, LIGHT)
    if uncertainty.uncalibrated and uncertainty.calibrated:
        drawings["reliability.png"] = figures.draw_reliability(uncertainty.uncalibrated, uncertainty.calibrated, LIGHT)
    if regression:
        drawings["scores.png"] = figures.draw_scatter(*regression, LIGHT)
    return drawings


def target_context(test: Metrics, regression: Scores | None) -> dict[str, Any]:
    """Return the context of the templates for a kind of target."""
    match test:
        case ClassificationMetrics():
            named = len(test.classes) <= MAX_NAMED_CLASSES
            alt = "Heat map of true classes against predictions; the most frequent mistakes are listed below."
            return {
                "attribute": "label",
                "image_counts": {metrics.name: metrics.images for metrics in test.per_class},
                "heat_map": None if named else _render_themes(partial(figures.draw_confusion, test), alt),
                "mistakes": list_confusions(test, 10),
            }
        case MultilabelMetrics():
            return {"attribute": "labels"}
        case RegressionMetrics():
            alt = f"True values against predictions; on average {number(test.mae.value)} apart."
            scatter = regression and _render_themes(partial(figures.draw_scatter, *regression), alt)
            return {"attribute": "score", "scatter": scatter}


def reliability_pictures(uncertainty: UncertaintyMetrics) -> dict[str, str] | None:
    """Return the reliability diagram in both themes; None if there are no probabilities."""
    if not uncertainty.uncalibrated or not uncertainty.calibrated:
        return None
    alt = f"Reliability diagram; expected calibration error {percent(uncertainty.calibrated.ece.value)}."
    return _render_themes(partial(figures.draw_reliability, uncertainty.uncalibrated, uncertainty.calibrated), alt)


def _curves(history: Sequence[EpochRecord]) -> list[dict[str, str]]:
    if not history:
        return []
    first, last = history[0], history[-1]
    best = max(record.val_metric for record in history)
    show = number if last.metric == "R²" else percent
    loss = (
        f"Loss by epoch: in validation from {first.val_loss:.3g} to {last.val_loss:.3g}, "
        f"in training from {_loss(first)} to {_loss(last)}."
    )
    metric = (
        f"Validation {last.metric} by epoch: from {show(first.val_metric)} to {show(last.val_metric)}, "
        f"at best {show(best)}."
    )
    return [
        _render_themes(partial(figures.draw_curves, history, panels=["loss"]), loss),
        _render_themes(partial(figures.draw_curves, history, panels=["metric"]), metric),
    ]


def _loss(record: EpochRecord) -> str:
    return "none" if record.train_loss is None else f"{record.train_loss:.3g}"


def _render_themes(draw: Callable[[Palette], Figure], alt: str) -> dict[str, str]:
    return {"alt": alt, "light": data_uri(figures.png(draw(LIGHT))), "dark": data_uri(figures.png(draw(DARK)))}


def sort_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Return the (wrong, correct) examples to show, the most confident mistakes first."""
    wrong = sorted(
        (example for example in examples if not example.is_correct),
        key=lambda example: -example.top[0][1] if example.top else 0,
    )
    return wrong[:_MAX_EXAMPLES], [example for example in examples if example.is_correct][:_MAX_EXAMPLES]
