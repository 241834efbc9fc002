"""The report of a training run: one HTML file that opens anywhere and asks nothing of the network."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from megavit.config.trust import Calibration
from megavit.evaluate.metrics.classification import MAX_NAMED_CLASSES, ClassificationMetrics, list_confusions
from megavit.evaluate.metrics.dispatch import Metrics
from megavit.evaluate.metrics.multilabel import MultilabelMetrics
from megavit.evaluate.metrics.regression import RegressionMetrics
from megavit.evaluate.report.html import data_uri, environment, percent, plain, result_context, write_page
from megavit.evaluate.uncertainty.uncertainty import UncertaintyMetrics
from megavit.train.finetune.progressive import Tuning
from megavit.train.history import EpochRecord
from megavit.train.report import figures
from megavit.train.report.figures import DARK, LIGHT, Example, Palette

_SHOWN = 12
"""Examples shown of each kind, wrong and right."""


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What the images were.

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
    """Everything that the page says. Any text may come from the user's files: it is escaped.

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
        fitted: what makes its answers trustworthy.
        trust: how far those for the test images can be trusted.
        examples: test images; the report sorts right from wrong.
        scores: (true, answered) scores of the test images, where these are what is learned.
        tuning: what came of a run that began with weights trained before.
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
    fitted: Calibration
    trust: UncertaintyMetrics
    examples: Sequence[Example]
    scores: tuple[Sequence[float], Sequence[float]] | None = None
    tuning: Tuning | None = None
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
    wrong, right = _sorted_examples(report.examples)
    drawn: dict[str, Figure] = {}
    if isinstance(report.test, ClassificationMetrics):
        drawn["confusion.png"] = figures.confusion(report.test, LIGHT)
    if report.trust.before and report.trust.after:
        drawn["reliability.png"] = figures.reliability(report.trust.before, report.trust.after, LIGHT)
    if report.scores:
        drawn["scores.png"] = figures.scatter(*report.scores, LIGHT)
    if report.history:
        drawn["curves.png"] = figures.curves(report.history, LIGHT)
    if report.examples:
        drawn["examples.png"] = figures.examples([*wrong, *right], LIGHT)
    page = _render(report, wrong, right)
    for name, figure in drawn.items():
        write_page(folder / "figures" / name, figures.png(figure))
    # File names may hold bytes that are no text; they must not cost the whole report.
    return write_page(folder / "report.html", page.encode("utf-8", errors="replace"))


def _render(report: Report, wrong: Sequence[Example], right: Sequence[Example]) -> str:
    return (
        environment("megavit.train.report")
        .get_template("report.html.j2")
        .render(
            report=report,
            title=report.title,
            created=report.created,
            val=report.val,
            wrong=wrong,
            right=right,
            explained=any(one.overlay is not None for one in report.examples),
            curves=_curves(report.history),
            trust=report.trust,
            fitted=report.fitted,
            reliability=_reliability(report.trust),
            bundle_in_shell=shlex.quote(report.bundle),
            bundle_in_python=repr(report.bundle),
            **result_context(report.test),
            **_of_target(report),
        )
    )


def _of_target(report: Report) -> dict[str, Any]:
    """What this page alone says for the kind of target."""
    test = report.test
    match test:
        case ClassificationMetrics():
            named = len(test.classes) <= MAX_NAMED_CLASSES
            alt = "Heat map of true classes against answers; the commonest mistakes are listed below."
            return {
                "attribute": "label",
                "image_counts": {one.name: one.images for one in test.per_class},
                "heat_map": None if named else _picture(partial(figures.confusion, test), alt),
                "mistakes": list_confusions(test, 10),
            }
        case MultilabelMetrics():
            return {"attribute": "labels"}
        case RegressionMetrics():
            alt = f"True scores against answers; on average {plain(test.mae.value)} apart."
            scatter = report.scores and _picture(partial(figures.scatter, *report.scores), alt)
            return {"attribute": "score", "scatter": scatter}


def _reliability(trust: UncertaintyMetrics) -> dict[str, str] | None:
    if not trust.before or not trust.after:
        return None
    alt = f"Share of right answers by probability; on average {percent(trust.after.error.value)} apart."
    return _picture(partial(figures.reliability, trust.before, trust.after), alt)


def _curves(history: Sequence[EpochRecord]) -> list[dict[str, str]]:
    if not history:
        return []
    first, last = history[0], history[-1]
    best = max(record.val_metric for record in history)
    show = plain if last.metric == "R²" else percent
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
        _picture(partial(figures.curves, history, panels=["loss"]), loss),
        _picture(partial(figures.curves, history, panels=["metric"]), metric),
    ]


def _loss(record: EpochRecord) -> str:
    return "none" if record.train_loss is None else f"{record.train_loss:.3g}"


def _picture(draw: Callable[[Palette], Figure], alt: str) -> dict[str, str]:
    return {"alt": alt, "light": data_uri(figures.png(draw(LIGHT))), "dark": data_uri(figures.png(draw(DARK)))}


def _sorted_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(wrong, right), as many as are shown; the surest of the wrong ones first, for they teach the most."""
    wrong = sorted((one for one in examples if not one.right), key=lambda one: -one.top[0][1] if one.top else 0)
    return wrong[:_SHOWN], [one for one in examples if one.right][:_SHOWN]
