"""The plot and the table of `stability.py`: the highest stable rate by width, and losses and logits by rate."""

import math
from collections.abc import Sequence
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from megavit.training.report.figures import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Run = dict[str, Any]
# A rate is stable if its loss is at most this many times the best of its width and seed, over designs and rates; for
# several seeds, the median of these ratios counts.
STABLE = 1.5
COLORS = {"MegaVit": LIGHT.accent, "MegaVit without QK-norm": "#d98324", "plain ViT": "#8d8f94"}
# The width whose losses and logits are shown; the others are much like it.
SHOWN_WIDTH = 128


def select_runs(runs: Sequence[Run], **trial: Any) -> list[Run]:
    """The runs whose trial is of that kind."""
    return [run for run in runs if all(run["trial"][name] == value for name, value in trial.items())]


def trial_values(runs: Sequence[Run], name: str) -> list[Any]:
    return sorted({run["trial"][name] for run in runs})


def highest_stable(runs: Sequence[Run], design: str) -> float | None:
    """The highest rate up to which `design` is stable at every rate, among runs of one width, depth and optimizer.

    None: not even the lowest is.
    """
    # Seeds are not compared with each other: their last steps use different images.
    best = {seed: min(map(_loss, select_runs(runs, seed=seed))) for seed in trial_values(runs, "seed")}
    found = None
    for rate in trial_values(select_runs(runs, design=design), "rate"):
        selected = select_runs(runs, design=design, rate=rate)
        if median(_loss(run) / best[run["trial"]["seed"]] for run in selected) > STABLE:
            break
        found = rate
    return found


def _loss(run: Run) -> float:
    return math.inf if run["loss"] is None else run["loss"]


def table(runs: Sequence[Run]) -> list[tuple[str, int, int, dict[str, float | None]]]:
    """(optimizer, layers, width, design -> highest stable rate) of each sweep that has been run to its end."""
    rates = trial_values(runs, "rate")
    kinds = sorted({(run["trial"]["optimizer"], run["trial"]["depth"], run["trial"]["width"]) for run in runs})
    rows = []
    for optimizer, depth, width in kinds:
        selected = select_runs(runs, optimizer=optimizer, depth=depth, width=width)
        if any(trial_values(select_runs(selected, design=design), "rate") != rates for design in COLORS):
            continue
        rows.append((optimizer, depth, width, {design: highest_stable(selected, design) for design in COLORS}))
    return rows


def plot(runs: Sequence[Run], depth: int) -> Figure:
    """Three panels: the highest stable rate by width; loss, and largest attention logit, by rate at one width."""
    figure = Figure(figsize=(10.5, 3.8), dpi=160, layout="constrained", facecolor=LIGHT.paper)
    by_width, losses, logits = figure.subplots(1, 3)
    selected = select_runs(runs, depth=depth)
    shown = select_runs(selected, width=SHOWN_WIDTH, optimizer="adamw")
    for design, color in COLORS.items():
        for optimizer, line in (("adamw", "o-"), ("muon", "o:")):
            points = [(width, rates[design]) for kind, _, width, rates in table(selected) if kind == optimizer]
            label = design if optimizer == "adamw" else None
            by_width.plot(*zip(*points, strict=True), line, color=color, label=label, markersize=5)
        _curve(losses, select_runs(shown, design=design), "loss", color)
        _curve(logits, select_runs(shown, design=design), "attention_logit", color)
    losses.axhline(
        STABLE * min(map(_loss, select_runs(shown, seed=0))), color=LIGHT.muted, linewidth=1.0, linestyle=":"
    )
    _style(by_width, "highest stable learning rate (dotted: Muon)", "width")
    widths, rates = trial_values(selected, "width"), trial_values(selected, "rate")
    by_width.set_xticks(widths, [str(width) for width in widths])
    by_width.set_yticks(rates, [f"{rate:g}" for rate in rates])
    _style(losses, f"loss after training, width {SHOWN_WIDTH}, AdamW", "learning rate (dotted: stable)")
    ticks = (0.5, 0.7, 1.0, 1.5, 2.0)
    losses.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    _style(logits, f"largest attention logit, width {SHOWN_WIDTH}, AdamW", "learning rate")
    losses.legend(
        *by_width.get_legend_handles_labels(), loc="upper left", frameon=False, fontsize=8, labelcolor=LIGHT.ink
    )  # fmt: skip
    return figure


def _curve(axes: "Axes", runs: Sequence[Run], metric: str, color: str) -> None:
    """The mean over seeds by rate, and each seed."""
    found: dict[float, list[float]] = {}
    for run in runs:
        if run[metric] is not None:
            found.setdefault(run["trial"]["rate"], []).append(run[metric])
    axes.plot(sorted(found), [mean(found[rate]) for rate in sorted(found)], "-", color=color)
    points = [(rate, one) for rate, ones in found.items() for one in ones]
    axes.plot(*zip(*points, strict=True), "o", color=color, markersize=3.5)


def _style(axes: "Axes", title: str, across: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(title, loc="left", color=LIGHT.ink, fontsize=10)
    axes.set_xlabel(across, color=LIGHT.muted, fontsize=9)
    axes.set_facecolor(LIGHT.paper)
    axes.grid(color=LIGHT.line, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=LIGHT.muted, labelsize=8, length=0, which="both")
    for spine in axes.spines.values():
        spine.set_visible(False)
