"""The plot and the table of `stability.py`: the highest stable rate by width, and losses and logits by rate."""

import math
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from megavit.train.figures import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Run = dict[str, Any]
# A rate is stable where the loss is at most so many times the best of its width and seed, of all designs and rates; of
# several seeds, the median of these ratios.
STABLE = 1.5
COLOURS = {"MegaVit": LIGHT.accent, "MegaVit without QK-norm": "#d98324", "plain ViT": "#8d8f94"}
# The width whose losses and logits are shown; the other two are much like it.
SHOWN_WIDTH = 128


def chosen(runs: Sequence[Run], **what: Any) -> list[Run]:
    """The runs whose trial is of that kind."""
    return [run for run in runs if all(run["trial"][name] == value for name, value in what.items())]


def values_of(runs: Sequence[Run], name: str) -> list[Any]:
    return sorted({run["trial"][name] for run in runs})


def highest_stable(runs: Sequence[Run], design: str) -> float | None:
    """The highest rate up to which `design` is stable at every rate, among runs of one width, depth and optimiser.

    None: not even the lowest is.
    """
    # Seeds are not compared with each other: their last steps are on other images.
    best = {seed: min(map(_loss, chosen(runs, seed=seed))) for seed in values_of(runs, "seed")}
    found = None
    for rate in values_of(chosen(runs, design=design), "rate"):
        some = chosen(runs, design=design, rate=rate)
        if median(_loss(run) / best[run["trial"]["seed"]] for run in some) > STABLE:
            break
        found = rate
    return found


def _loss(run: Run) -> float:
    return math.inf if run["loss"] is None else run["loss"]


def table(runs: Sequence[Run]) -> list[tuple[str, int, int, dict[str, float | None]]]:
    """(optimiser, layers, width, design -> highest stable rate)."""
    kinds = sorted({(run["trial"]["optimiser"], run["trial"]["depth"], run["trial"]["width"]) for run in runs})
    rows = []
    for optimiser, depth, width in kinds:
        some = chosen(runs, optimiser=optimiser, depth=depth, width=width)
        rows.append((optimiser, depth, width, {design: highest_stable(some, design) for design in COLOURS}))
    return rows


def plot(runs: Sequence[Run], depth: int, optimiser: str = "adamw") -> Figure:
    """Three panels: the highest stable rate by width; loss, and largest attention logit, by rate at one width."""
    figure = Figure(figsize=(10.5, 3.8), dpi=160, layout="constrained", facecolor=LIGHT.paper)
    by_width, losses, logits = figure.subplots(1, 3)
    some = chosen(runs, depth=depth, optimiser=optimiser)
    for design, colour in COLOURS.items():
        rates = {
            width: highest_stable(chosen(some, width=width), design)
            for width in values_of(some, "width")
        }  # fmt: skip
        points = [(width, rate) for width, rate in rates.items() if rate is not None]
        by_width.plot(*zip(*points, strict=True), "o-", color=colour, label=design)
        shown = chosen(some, width=SHOWN_WIDTH, design=design)
        _curve(losses, shown, lambda run: run["loss"], colour, design)
        _curve(logits, shown, lambda run: run["attention_logit"], colour, design)
    best = min(map(_loss, chosen(some, width=SHOWN_WIDTH, seed=0)))
    losses.axhline(STABLE * best, color=LIGHT.muted, linewidth=1.0, linestyle=":")
    _style(by_width, "highest stable learning rate", "width")
    widths = values_of(some, "width")
    by_width.set_xticks(widths, [str(width) for width in widths])
    _style(losses, f"loss after training, width {SHOWN_WIDTH} (dotted: stable)", "learning rate")
    ticks = (0.5, 0.7, 1.0, 1.5, 2.0)
    losses.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    _style(logits, f"largest attention logit, width {SHOWN_WIDTH}", "learning rate")
    by_width.legend(frameon=False, fontsize=8, labelcolor=LIGHT.ink)
    return figure


def _curve(axes: "Axes", runs: Sequence[Run], value: Callable[[Run], float | None], colour: str, label: str) -> None:
    """The mean over seeds by rate, and each seed."""
    found: dict[float, list[float]] = {}
    for run in runs:
        one = value(run)
        if one is not None:
            found.setdefault(run["trial"]["rate"], []).append(one)
    axes.plot(sorted(found), [mean(found[rate]) for rate in sorted(found)], "-", color=colour, label=label)
    points = [(rate, one) for rate, ones in found.items() for one in ones]
    axes.plot(*zip(*points, strict=True), "o", color=colour, markersize=3.5)


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
