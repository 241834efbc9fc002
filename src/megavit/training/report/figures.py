"""Draw the report's figures with matplotlib, for light and dark pages; without pyplot, any thread may draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ticker import MaxNLocator, PercentFormatter

from megavit.evaluation.metrics.calibration import Reliability
from megavit.evaluation.metrics.classification import MAX_NAMED_CLASSES, ClassificationMetrics
from megavit.training.history import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_HEAT_CELLS = 150
"""Maximum number of cells per side of a heat map."""

Panel = Literal["loss", "metric"]

# DejaVu comes with matplotlib; the others, if installed, cover more scripts.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
)


@dataclass(frozen=True)
class Palette:
    """The colors of a light or dark page."""

    paper: str
    ink: str
    muted: str
    line: str
    accent: str


LIGHT = Palette(paper="#ffffff", ink="#1a1d21", muted="#5b636d", line="#dfe2e6", accent="#1f5fbf")
DARK = Palette(paper="#14171b", ink="#e7e9ec", muted="#a1a8b1", line="#2e343b", accent="#7fb2ff")


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image with its true class and the model's prediction; ValueError is raised for other dtypes and shapes.

    Attributes:
        image: uint8, (H, W) gray or (H, W, 3) RGB.
        name: source of the image, such as its file name.
        truth: true class, labels or value.
        top: (class or label, probability) pairs, most likely first; empty for regression.
        prediction: predicted class, labels or value.
        is_correct: whether prediction and truth agree; for regression, whether the error is not among the largest.
        overlay: uint8 (H, W, 3) image overlaid with an explanation of the prediction, or None.
    """

    image: "NDArray[np.uint8]"
    name: str
    truth: str
    top: Sequence[tuple[str, float]]
    prediction: str
    is_correct: bool
    overlay: "NDArray[np.uint8] | None" = None

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
            raise ValueError(f"image must be uint8, (H, W) or (H, W, 3); got {self.image.dtype}, {shape}")


def draw_curves(
    history: Sequence[EpochRecord], palette: Palette, panels: Sequence[Panel] = ("loss", "metric")
) -> Figure:
    """Return the loss and the validation metric by epoch, one panel each, side by side, for at least one record."""
    figure = Figure(figsize=(4.6 * len(panels), 3.0), dpi=200, layout="constrained", facecolor=palette.paper)
    epochs = [record.epoch for record in history]
    style: dict[str, Any] = {"linewidth": 1.8, "marker": "o" if len(history) <= 12 else None, "markersize": 4}
    for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        _style(axes, palette)
        axes.grid(axis="y", color=palette.line, linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.set_xlabel("epoch", color=palette.muted, fontsize=9)
        if panel == "loss":
            axes.set_title("Loss", loc="left", color=palette.ink, fontsize=10)
            losses = [math.nan if r.train_loss is None else r.train_loss for r in history]
            axes.plot(epochs, losses, color=palette.muted, label="training", **style)
            axes.plot(epochs, [r.val_loss for r in history], color=palette.accent, label="validation", **style)
            axes.set_ylim(bottom=0)
        else:
            best = max(history, key=lambda record: record.val_metric)
            is_share = best.metric != "R²"
            axes.set_title(f"Validation {best.metric}", loc="left", color=palette.ink, fontsize=10)
            axes.plot(epochs, [r.val_metric for r in history], color=palette.accent, **style)
            label = f"best: {best.val_metric:{'.1%' if is_share else '.3f'}}, epoch {best.epoch:g}"
            axes.plot([best.epoch], [best.val_metric], "o", color=palette.accent, markersize=6, label=label)
            if is_share:
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.set_ylim(bottom=None if is_share else max(-1.0, min(r.val_metric for r in history)), top=1.02)
        axes.legend(frameon=False, fontsize=9, labelcolor=palette.ink)
    return figure


def draw_confusion(metrics: ClassificationMetrics, palette: Palette) -> Figure:
    """Return the confusion matrix: true classes in rows, predictions in columns, shaded by the share of the row."""
    counts = np.array(metrics.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    heat = LinearSegmentedColormap.from_list("heat", [palette.paper, palette.accent])
    width = len(counts)
    is_named = width <= MAX_NAMED_CLASSES
    size = (2.0 + 0.36 * width,) * 2 if is_named else (6.6, 5.6)
    figure = Figure(figsize=size, dpi=160, layout="constrained", facecolor=palette.paper)
    axes = figure.subplots()
    _style(axes, palette)
    # The square root keeps rare mistakes visible next to a strong diagonal.
    heat_map = axes.imshow(
        _largest_in_blocks(shares), cmap=heat, norm=PowerNorm(0.5, 0, 1), extent=(-0.5, width - 0.5, width - 0.5, -0.5)
    )
    axes.spines[:].set(visible=True, color=palette.line)
    axes.set_xlabel("prediction", color=palette.muted, fontsize=9)
    axes.set_ylabel("true class", color=palette.muted, fontsize=9)
    if not is_named:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        bar = figure.colorbar(
            heat_map, ax=axes, shrink=0.6, format=PercentFormatter(1.0), ticks=[0, 0.05, 0.25, 0.5, 1]
        )
        bar.ax.tick_params(colors=palette.muted, labelsize=8, length=0)
        bar.outline.set_visible(False)  # pyrefly: ignore[not-callable]
        return figure
    labels = [_drawable(name, f"class {index}") for index, name in enumerate(metrics.classes)]
    text: dict[str, Any] = {"fontfamily": list(_fonts()[0]), "parse_math": False, "color": palette.ink, "fontsize": 8}
    axes.set_xticks(range(width), labels, rotation=0 if max(map(len, labels)) <= 3 else 90, **text)
    axes.set_yticks(range(width), labels, **text)
    for row, column in zip(*counts.nonzero(), strict=True):
        color = palette.paper if shares[row, column] > 0.35 else palette.ink
        axes.text(column, row, f"{counts[row, column]}", color=color, fontsize=7, ha="center", va="center")
    return figure


def draw_scatter(truth: Sequence[float], predictions: Sequence[float], palette: Palette) -> Figure:
    """Return a scatter plot of predictions against true values, with the line of equality."""
    figure = Figure(figsize=(4.6, 4.4), dpi=200, layout="constrained", facecolor=palette.paper)
    axes = figure.subplots()
    _style(axes, palette)
    low, high = min(*truth, *predictions), max(*truth, *predictions)
    margin = 0.03 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=palette.line, linewidth=1.2)
    opacity = min(0.8, max(0.08, 60 / len(truth)))
    axes.plot(truth, predictions, "o", color=palette.accent, alpha=opacity, markersize=4, markeredgewidth=0)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_xlabel("true value", color=palette.muted, fontsize=9)
    axes.set_ylabel("prediction", color=palette.muted, fontsize=9)
    return figure


def draw_reliability(before: Reliability, after: Reliability, palette: Palette) -> Figure:
    """Return the reliability diagram: accuracy by predicted probability, before and after calibration."""
    figure = Figure(figsize=(4.6, 4.4), dpi=200, layout="constrained", facecolor=palette.paper)
    axes = figure.subplots()
    _style(axes, palette)
    axes.plot((0, 1), (0, 1), color=palette.line, linewidth=1.2)
    for reliability, color, label in ((before, palette.muted, "before"), (after, palette.accent, "calibrated")):
        accuracies = [bin.accuracy for bin in reliability.bins]
        errors = [[share.value - share.low for share in accuracies], [share.high - share.value for share in accuracies]]
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": 0, "elinewidth": 1.2}
        probabilities = [bin.confidence for bin in reliability.bins]
        axes.errorbar(probabilities, [share.value for share in accuracies], errors, color=color, label=label, **style)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("probability", color=palette.muted, fontsize=9)
    axes.set_ylabel("accuracy", color=palette.muted, fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=palette.ink)
    return figure


def draw_examples(examples: Sequence[Example], palette: Palette) -> Figure:
    """Return at least one image with prediction and truth, six per row."""
    columns = min(6, len(examples))
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(1.7 * columns, 2.1 * rows), dpi=160, layout="constrained", facecolor=palette.paper)
    text: dict[str, Any] = {"fontfamily": list(_fonts()[0]), "parse_math": False, "fontsize": 8, "loc": "left"}
    for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if index < len(examples):
            example = examples[index]
            prediction = _drawable(example.prediction, "prediction")
            if example.top and example.top[0][0] == example.prediction:
                prediction += f" {example.top[0][1]:.0%}"
            truth = "correct" if example.is_correct and example.top else f"truly {_drawable(example.truth, 'another')}"
            axes.imshow(example.image, cmap="gray", vmin=0, vmax=255)
            axes.set_title(
                f"{prediction}\n{truth}", color=palette.muted if example.is_correct else palette.accent, **text
            )
    return figure


def png(figure: Figure) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()


def _largest_in_blocks(shares: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return (C, C) max-pooled in square blocks to at most `_HEAT_CELLS` cells per side."""
    block = -(-len(shares) // _HEAT_CELLS)
    padded = np.pad(shares, (0, -len(shares) % block))
    side = len(padded) // block
    return padded.reshape(side, block, side, block).max(axis=(1, 3))


def _style(axes: "Axes", palette: Palette) -> None:
    axes.set_facecolor(palette.paper)
    axes.set_axisbelow(True)
    axes.tick_params(colors=palette.muted, labelsize=8, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


@cache
def _fonts() -> tuple[tuple[str, ...], frozenset[int]]:
    # matplotlib warns about each family that is not installed.
    installed = set(fontManager.get_font_names())
    families = tuple(family for family in _FAMILIES if family in installed)
    points = {point for family in families for point in get_font(findfont(FontProperties(family=family))).get_charmap()}
    return families, frozenset(points)


def _drawable(name: str, fallback: str) -> str:
    """Return `name` on one line, truncated to 20 characters, or `fallback` if no installed font can draw it."""
    line = " ".join(name.split())
    if not line or not all(ord(letter) in _fonts()[1] for letter in line):
        return fallback
    return line if len(line) <= 20 else line[:19] + "…"
