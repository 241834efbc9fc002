"""The report of a training run: one HTML file that opens anywhere and asks nothing of the network."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from megavit.config.calibration import Calibration
from megavit.evaluate.metrics.classification import MAX_NAMED_CLASSES, ClassificationMetrics, list_confusions
from megavit.evaluate.metrics.dispatch import Metrics
from megavit.evaluate.metrics.multilabel import MultilabelMetrics
from megavit.evaluate.metrics.regression import RegressionMetrics
from megavit.evaluate.report.html import data_uri, metrics_context, number, percent, render_page, write_file_atomically
from megavit.evaluate.uncertainty.uncertainty import UncertaintyMetrics
from megavit.train.history import EpochRecord, TuneSummary
from megavit.train.report import figures
from megavit.train.report.figures import DARK, LIGHT, Example, Palette

_MAX_EXAMPLES = 12
"""Examples shown of each kind, wrong and correct."""


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """A summary of the data set.

    Attributes:
        source: where they are from.
        division: one sentence on how they were divided.
        counts: split -> class, or label -> images.
        images: split -> images.
        skipped: reason -> files that were left out for it.
        findings: sentences on what should be looked at.
    """

    source: str
    division: str
    counts: Mapping[str, Mapping[str, int]]
    images: Mapping[str, int]
    skipped: Mapping[str, int]
    findings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the page shows. Any text may come from the user's files: it is escaped.

    Attributes:
        title: of the page.
        created: ISO 8601 time.
        data: what the images were.
        model: (name, value) pairs, such as preset, image size, parameters.
        recipe_toml: the recipe as it was run.
        environment: (name, value) pairs: machine, versions, threads, device, precision, wall time.
        history: one record for each validation; may be empty.
        test: measured on images that nothing was chosen by.
        val: measured on the images by which the epoch was chosen, if any; of the same kind as `test`.
        calibration: of the bundle.
        uncertainty: how far the predictions for the test images can be trusted.
        examples: test images; the report sorts right from wrong.
        regression: (true, predicted) values of the test images, of regression.
        tuning: the results of a run that started from pretrained weights.
        bundle: path of the bundle, for the lines that show how to use it.
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
    regression: tuple[Sequence[float], Sequence[float]] | None = None
    tuning: TuneSummary | None = None
    bundle: str


def write_report(folder: Path, report: Report) -> Path:
    """Write `folder/report.html`, and its figures as PNG files into `folder/figures/`.

    The page holds its pictures and styles, follows the reader's light or dark setting, and forbids itself
    scripts and outside requests. A reader sees the old file or the new one, never half of one. A figure
    without anything to show (no epochs, no examples) is not written.

    Returns:
        The path of the page.

    Raises:
        OutputError: the folder cannot be written.
    """
    wrong, correct = _sort_examples(report.examples)
    drawings: dict[str, Figure] = {}
    if isinstance(report.test, ClassificationMetrics):
        drawings["confusion.png"] = figures.draw_confusion(report.test, LIGHT)
    if report.uncertainty.uncalibrated and report.uncertainty.calibrated:
        drawings["reliability.png"] = figures.draw_reliability(
            report.uncertainty.uncalibrated, report.uncertainty.calibrated, LIGHT
        )
    if report.regression:
        drawings["scores.png"] = figures.draw_scatter(*report.regression, LIGHT)
    if report.history:
        drawings["curves.png"] = figures.draw_curves(report.history, LIGHT)
    if report.examples:
        drawings["examples.png"] = figures.draw_examples([*wrong, *correct], LIGHT)
    page = render_page(
        "report.html.j2",
        "megavit.train.report",
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
        reliability=_reliability(report.uncertainty),
        bundle_in_shell=shlex.quote(report.bundle),
        bundle_in_python=repr(report.bundle),
        **metrics_context(report.test),
        **_target_context(report),
    )
    for name, figure in drawings.items():
        write_file_atomically(folder / "figures" / name, figures.png(figure))
    return write_file_atomically(folder / "report.html", page)


def _target_context(report: Report) -> dict[str, Any]:
    """Return what this page alone says for the kind of target."""
    test = report.test
    match test:
        case ClassificationMetrics():
            named = len(test.classes) <= MAX_NAMED_CLASSES
            alt = "Heat map of true classes against predictions; the commonest mistakes are listed below."
            return {
                "attribute": "label",
                "image_counts": {one.name: one.images for one in test.per_class},
                "heat_map": None if named else _picture(partial(figures.draw_confusion, test), alt),
                "mistakes": list_confusions(test, 10),
            }
        case MultilabelMetrics():
            return {"attribute": "labels"}
        case RegressionMetrics():
            alt = f"True values against predictions; on average {number(test.mae.value)} apart."
            scatter = report.regression and _picture(partial(figures.draw_scatter, *report.regression), alt)
            return {"attribute": "score", "scatter": scatter}


def _reliability(uncertainty: UncertaintyMetrics) -> dict[str, str] | None:
    if not uncertainty.uncalibrated or not uncertainty.calibrated:
        return None
    alt = f"Reliability diagram; expected calibration error {percent(uncertainty.calibrated.ece.value)}."
    return _picture(partial(figures.draw_reliability, uncertainty.uncalibrated, uncertainty.calibrated), alt)


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
    # One picture a panel: beside each other on a desk, below each other on a phone.
    return [
        _picture(partial(figures.draw_curves, history, panels=["loss"]), loss),
        _picture(partial(figures.draw_curves, history, panels=["metric"]), metric),
    ]


def _loss(record: EpochRecord) -> str:
    return "none" if record.train_loss is None else f"{record.train_loss:.3g}"


def _picture(draw: Callable[[Palette], Figure], alt: str) -> dict[str, str]:
    return {"alt": alt, "light": data_uri(figures.png(draw(LIGHT))), "dark": data_uri(figures.png(draw(DARK)))}


def _sort_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Return (wrong, correct), as many as are shown; the surest of the wrong ones first, for they teach the most."""
    wrong = sorted(
        (example for example in examples if not example.is_correct),
        key=lambda example: -example.top[0][1] if example.top else 0,
    )
    return wrong[:_MAX_EXAMPLES], [example for example in examples if example.is_correct][:_MAX_EXAMPLES]
