"""The race's figures for people: tables in docs/benchmarks.md and a plot beside it, from results/learning/race.json.

python -m benchmarks.learning.report
"""

import argparse
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from benchmarks.learning.results import RESULTS, read_results
from benchmarks.pages import page_with
from megavit.runtime.storage import write_file
from megavit.training.report.figures import LIGHT, png

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- race: written by `python -m benchmarks.learning.report` -->", "<!-- end of race -->"
# The plot begins this far below the lowest final accuracy.
BELOW_LOWEST_END = 0.06
MINUTES = (1.0, 2.0, 5.0, 10.0)
TICKS = (10, 30, 60, 120, 300, 600)
OURS = "megavit"
COLORS = (LIGHT.accent, "#c2571a", "#2e8b57", "#e3a87f", "#9bc8ad", "#7d5ba6", "#8a8f98")


class Curve(NamedTuple):
    """The runs of one contender in one budget.

    Attributes:
        minutes: the budget.
        marks: seconds of training, in order.
        accuracies: at each mark, of each seed.
    """

    minutes: float
    marks: list[float]
    accuracies: list[list[float]]

    @property
    def medians(self) -> list[float]:
        return [median(of_seeds) for of_seeds in self.accuracies]


Curves = dict[str, list[Curve]]


def collect_curves(runs: list[dict[str, Any]]) -> Curves:
    """The curves of each contender, shortest budget first, from the records of finished runs."""
    groups: dict[tuple[str, float], list[list[list[float]]]] = {}
    for run in runs:
        groups.setdefault((run["contender"], run["minutes"]), []).append(run["curve"])
    marks = max((len(curve) for group in groups.values() for curve in group), default=0)
    curves: Curves = {}
    for (name, minutes), group in sorted(groups.items(), key=lambda item: item[0][1]):
        finished = [curve for curve in group if len(curve) == marks]
        if finished:
            seconds = [minutes * 60 * (mark + 1) / marks for mark in range(marks)]
            accuracies = [[curve[mark][1] for curve in finished] for mark in range(marks)]
            curves.setdefault(name, []).append(Curve(minutes, seconds, accuracies))
    return curves


def accuracies_after(curves: list[Curve], minutes: float) -> list[float] | None:
    """Each seed's accuracy after `minutes`: at the end of that budget, else on the way of the next longer one."""
    for curve in curves:
        if curve.minutes >= minutes:
            return min(zip(curve.marks, curve.accuracies, strict=True), key=lambda m: abs(m[0] - minutes * 60))[1]
    return None


def seconds_to_reach(curves: list[Curve], target: float) -> float | None:
    """The fewest seconds, in any budget, after which the median over seeds is at least `target`."""
    times = [
        seconds
        for curve in curves
        for seconds, accuracy in zip(curve.marks, curve.medians, strict=True)
        if accuracy >= target
    ]
    return min(times, default=None)


def accuracy_table(curves: Curves) -> list[str]:
    lines = ["| after | " + " | ".join(f"{minutes:g} min" for minutes in MINUTES) + " |"]
    lines.append("|---" * (len(MINUTES) + 1) + "|")
    for name, of_budgets in curves.items():
        lines.append(
            f"| {name} | " + " | ".join(_cell(accuracies_after(of_budgets, minutes)) for minutes in MINUTES) + " |"
        )
    return lines


def _cell(accuracies: list[float] | None) -> str:
    if accuracies is None:
        return "–"
    if len(accuracies) == 1:
        return f"{accuracies[0]:.1%}"
    return f"{median(accuracies):.1%} ({min(accuracies):.1%} to {max(accuracies):.1%})"


def time_table(curves: Curves) -> list[str]:
    """For each peer, its best accuracy in its longest budget, and when it and we have it."""
    lines = ["| | its best | it needs | megavit needs | times faster |", "|---" * 5 + "|"]
    for name, of_budgets in curves.items():
        if name == OURS:
            continue
        best = max(of_budgets[-1].medians)
        peer_seconds, our_seconds = seconds_to_reach(of_budgets, best), seconds_to_reach(curves.get(OURS, []), best)
        assert peer_seconds is not None
        needs, factor = (
            ("not reached", "–")
            if our_seconds is None
            else (f"{our_seconds:.0f} s", f"{peer_seconds / our_seconds:.1f}")
        )
        lines.append(f"| {name} | {best:.1%} | {peer_seconds:.0f} s | {needs} | {factor} |")
    return lines


def plot(curves: Curves) -> Figure:
    """Accuracy against seconds: the median of each budget, the longest with the range over seeds."""
    figure = Figure(figsize=(7.6, 4.4), dpi=160, layout="constrained", facecolor=LIGHT.paper)
    axes = figure.subplots()
    axes.set_facecolor(LIGHT.paper)
    bottom = min(curve.medians[-1] for of_budgets in curves.values() for curve in of_budgets) - BELOW_LOWEST_END
    first_shown = min(seconds_to_reach(of_budgets, bottom) or 1.0 for of_budgets in curves.values())
    for color, (name, of_budgets) in zip(COLORS, curves.items(), strict=False):
        *shorter, longest = of_budgets
        for curve in shorter:
            axes.plot(curve.marks, curve.medians, color=color, linewidth=1.0, alpha=0.6)
        axes.plot(longest.marks, longest.medians, color=color, linewidth=2.0, label=name)
        low, high = [min(seeds) for seeds in longest.accuracies], [max(seeds) for seeds in longest.accuracies]
        axes.fill_between(longest.marks, low, high, color=color, alpha=0.15, linewidth=0)
        ends = [(curve.marks[-1], curve.medians[-1]) for curve in of_budgets]
        axes.plot(*zip(*ends, strict=True), "o", color=color, markersize=4)
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{seconds} s" if seconds < 60 else f"{seconds // 60} min" for seconds in TICKS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(left=first_shown * 0.9)
    axes.set_ylim(bottom=bottom)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("training time", color=LIGHT.muted)
    axes.set_title("Accuracy on Fashion-MNIST's test images", loc="left", color=LIGHT.ink, fontsize=11)
    axes.grid(color=LIGHT.line, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=LIGHT.muted, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=9, loc="lower right")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS / "race.json", metavar="FILE")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER", help="with learning.md and images/")
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    curves = collect_curves(results["runs"])
    if not curves:
        raise SystemExit(f"{arguments.results} has no finished run; run python -m benchmarks.learning.race first")
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    seeds = max(len(curve.accuracies[-1]) for of_budgets in curves.values() for curve in of_budgets)
    spread = "one seed" if seeds == 1 else f"median and range over up to {seeds} seeds"
    lines = [
        f"{results['machine']}; {versions}; {spread}.",
        "",
        *accuracy_table(curves),
        "",
        *time_table(curves),
        "",
        "![accuracy against training time](images/learning.png)",
    ]
    page = arguments.docs / "benchmarks.md"
    write_file(page, page_with(page.read_text(encoding="utf-8"), BEGIN, lines, END))
    write_file(arguments.docs / "images" / "learning.png", png(plot(curves)))


if __name__ == "__main__":
    main()
