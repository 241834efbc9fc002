"""The report of a training run: one HTML file that opens anywhere and asks nothing of the network."""

import os
import shlex
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from megavit.config.trust import Trust
from megavit.errors import OutputError
from megavit.evaluate.intervals import Interval
from megavit.evaluate.labels import LabelsMetrics
from megavit.evaluate.measure import AnyMetrics
from megavit.evaluate.metrics import Metrics, worst_confusions
from megavit.evaluate.scores import ScoreMetrics
from megavit.evaluate.trust import TrustMetrics
from megavit.train import figures
from megavit.train.figures import DARK, LIGHT, NUMBERED_CLASSES, Example, Palette
from megavit.train.history import EpochRecord
from megavit.train.ladder import Tuning

_SHOWN = 12
"""Examples shown of each kind, wrong and right."""

_THUMBNAIL = 224
"""Pixels of an example's longer side: sharp on a phone, and the file stays small."""


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What the images were.

    Attributes:
        source: where they are from.
        division: one sentence on how they were divided.
        counts: split -> class, or label -> images.
        images: split -> images.
        skipped: reason -> files that were left out for it.
    """

    source: str
    division: str
    counts: Mapping[str, Mapping[str, int]]
    images: Mapping[str, int]
    skipped: Mapping[str, int]


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
        scores: (true, answered) scores of the test images, where these are what is learnt.
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
    test: AnyMetrics
    val: AnyMetrics | None
    fitted: Trust
    trust: TrustMetrics
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
    if isinstance(report.test, Metrics):
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
        _write(folder / "figures" / name, figures.png(figure))
    # File names may hold bytes that are no text; they must not cost the whole report.
    return _write(folder / "report.html", page.encode("utf-8", errors="replace"))


def percent(share: float) -> str:
    """A share in [0, 1] as "98.6%", with as many digits as it takes not to say 0% or 100% unless it is."""
    if share in (0, 1):
        return f"{share:.0%}"
    texts = (f"{share:.{digits}%}" for digits in range(1, 7))
    return next((text for text in texts if float(text[:-1]) not in (0, 100)), f"{share:.1%}")


def _render(report: Report, wrong: Sequence[Example], right: Sequence[Example]) -> str:
    environment = Environment(
        loader=PackageLoader("megavit.train", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "span": _span,
        "plain": _plain,
        "plain_span": _plain_span,
        "images": _images,
        "thumbnail": _thumbnail,
    }
    return environment.get_template("report.html.j2").render(
        report=report,
        test=report.test,
        wrong=wrong,
        right=right,
        curves=_curves(report.history),
        trust=report.trust,
        temperature=report.fitted.temperature,
        false_alarms=report.fitted.false_alarms,
        reliability=_reliability(report.trust),
        bundle_in_shell=shlex.quote(report.bundle),
        bundle_in_python=repr(report.bundle),
        **_of_target(report),
    )


def _of_target(report: Report) -> dict[str, Any]:
    """What the page says for the kind of target alone; `target` chooses its parts."""
    test = report.test
    match test:
        case Metrics():
            named = len(test.classes) <= NUMBERED_CLASSES
            heat_map = "Heat map of true classes against answers; the commonest mistakes are listed below."
            return {
                "target": "classes",
                "attribute": "label",
                "commonest": max(test.per_class, key=lambda one: one.images),
                "per_class": sorted(test.per_class, key=lambda one: one.recall.value if one.recall else 2),
                "image_counts": {one.name: one.images for one in test.per_class},
                "named": named,
                "heat_map": None if named else _picture(partial(figures.confusion, test), heat_map),
                "mistakes": worst_confusions(test, 10),
            }
        case LabelsMetrics():
            return {
                "target": "labels",
                "attribute": "labels",
                "per_label": sorted(
                    test.per_label, key=lambda one: one.average_precision.value if one.average_precision else 2
                ),
            }
        case ScoreMetrics():
            alt = f"True scores against answers; on average {_plain(test.mae.value)} apart."
            scatter = report.scores and _picture(partial(figures.scatter, *report.scores), alt)
            return {"target": "score", "attribute": "score", "scatter": scatter}


def _reliability(trust: TrustMetrics) -> dict[str, str] | None:
    if not trust.before or not trust.after:
        return None
    alt = f"Share of right answers by probability; on average {percent(trust.after.error.value)} apart."
    return _picture(partial(figures.reliability, trust.before, trust.after), alt)


def _curves(history: Sequence[EpochRecord]) -> list[dict[str, str]]:
    if not history:
        return []
    first, last = history[0], history[-1]
    best = max(record.val_metric for record in history)
    show = _plain if last.metric == "R²" else percent
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
    return {"alt": alt, "light": _data_uri(figures.png(draw(LIGHT))), "dark": _data_uri(figures.png(draw(DARK)))}


def _sorted_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(wrong, right), as many as are shown; the surest of the wrong ones first, for they teach the most."""
    wrong = sorted((one for one in examples if not one.right), key=lambda one: -one.top[0][1] if one.top else 0)
    return wrong[:_SHOWN], [one for one in examples if one.right][:_SHOWN]


def _thumbnail(example: Example) -> str:
    picture = Image.fromarray(example.image)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return _data_uri(buffer.getvalue())


def _data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{b64encode(picture).decode('ascii')}"


def _span(interval: Interval) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _plain_span(interval: Interval) -> str:
    return f"{_plain(interval.low)} to {_plain(interval.high)}"


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _images(count: int, kind: str = "") -> str:
    return f"{count:,} {kind + ' ' if kind else ''}image{'' if count == 1 else 's'}"


def _write(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected to write the report to {path}, but: {error.strerror or error}; "
            "choose a folder that can be written and has space"
        ) from error
    return path
