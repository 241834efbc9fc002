"""The plot of `rate_transfer.py`: validation loss against learning rate, in one panel a question."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from megavit.training.report.figures import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICKS = (0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 5)
COLORS = ("#8fb8ea", LIGHT.accent, "#12305f")
Trial = dict[str, Any]

PANELS: dict[str, tuple[str, Callable[[Trial], bool]]] = {
    "width, with QK-norm": ("width", lambda t: t["qk_norm"] and t["batch_size"] == 128),
    "width, without QK-norm": ("width", lambda t: not t["qk_norm"]),
    "batch size, width 128": ("batch_size", lambda t: t["qk_norm"] and t["width"] == 128),
}


def plot(runs: list[dict[str, Any]], default_rate: float) -> Figure:
    """One curve for each width or batch size; runs that diverged are crosses at the top."""
    figure = Figure(figsize=(10.5, 3.6), dpi=160, layout="constrained", facecolor=LIGHT.paper)
    losses = [run["val_loss"] for run in runs if run["val_loss"] is not None]
    top = max(losses, default=1.0) * 1.1
    bottom = min(losses, default=0.5) * 0.9
    for axes, (title, (what, belongs)) in zip(figure.subplots(1, 3, sharey=True), PANELS.items(), strict=True):
        shown = [run for run in runs if belongs(run["trial"])]
        axes.axvline(default_rate, color=LIGHT.muted, linewidth=1.0, linestyle=":")
        for color, value in zip(COLORS, sorted({run["trial"][what] for run in shown}), strict=False):
            points = sorted(
                (run["trial"]["factor"] * default_rate, run["val_loss"]) for run in shown if run["trial"][what] == value
            )
            sound = [(rate, loss) for rate, loss in points if loss is not None]
            lost = [rate for rate, loss in points if loss is None]
            if sound:
                axes.plot(*zip(*sound, strict=True), "o-", color=color, markersize=4, label=str(value))
            axes.plot(lost, [top] * len(lost), "x", color=color)
        axes.set_title(title, loc="left", color=LIGHT.ink, fontsize=10)
        _style(axes)
        axes.set_ylim(bottom, top * 1.05)
    figure.supylabel("validation loss", color=LIGHT.muted, fontsize=9)
    return figure


def _style(axes: "Axes") -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("learning rate (dotted: the recipe's)", color=LIGHT.muted, fontsize=9)
    axes.set_facecolor(LIGHT.paper)
    axes.grid(color=LIGHT.line, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=LIGHT.muted, labelsize=8, length=0, which="both")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(frameon=False, fontsize=8, labelcolor=LIGHT.ink)
