"""The figures on photographs for people: tables in docs/benchmarks.md, from the files in results/learning.

python -m benchmarks.photos.photo_report
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.learning.results import read_results
from benchmarks.pages import page_with
from benchmarks.photos import finetune_methods, photo_ablate, photos
from megavit.runtime.storage import write_file

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = (
    "<!-- photographs: written by `python -m benchmarks.photos.photo_report` -->",
    "<!-- end of photographs -->",
)

Run = dict[str, Any]


def summarize(values: Sequence[float]) -> str:
    """Return the median of accuracies in percent, with the lowest and the highest if there are several."""
    if not values:
        return ""
    low, high = min(values), max(values)
    spread = f" ({low:.1%} to {high:.1%}, {len(values)} seeds)" if len(values) > 1 else ""
    return f"{median(values):.1%}{spread}"


def tabulate(runs: Sequence[Run], row: Callable[[Run], str], column: Callable[[Run], str], value: str) -> list[str]:
    """Return a Markdown table of the values of runs, with rows and columns in the order of the runs."""
    rows, columns = list(dict.fromkeys(map(row, runs))), list(dict.fromkeys(map(column, runs)))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in rows:
        cells = [
            summarize([run[value] for run in runs if row(run) == name and column(run) == head]) for head in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def list_simple(runs: Sequence[Run]) -> list[Run]:
    """Return the simple methods that `megavit train` reports as runs of their own, for runs in the order of minutes."""
    longest = {run["data"]: run for run in runs if run.get("simple")}
    return [
        {"data": data, "contender": f"{method}, on thumbnails", "test": accuracy}
        for data, run in longest.items()
        for method, accuracy in run["simple"].items()
    ]


def name_contender(run: Run) -> str:
    return run["contender"] + (f", {run['minutes']:g} min" if "minutes" in run else "")


def list_tables() -> list[str]:
    """Return the lines of the tables that have figures."""
    compared, methods, ablated = (read_results(module.FILE) for module in (photos, finetune_methods, photo_ablate))
    runs = sorted(compared["runs"], key=lambda run: (run.get("minutes", 99), run["contender"]))
    lines = [f"Test accuracy, on {compared['machine']}:", ""]
    lines += tabulate(runs + list_simple(runs), name_contender, lambda run: run["data"], "test")
    runs = sorted(methods["runs"], key=lambda run: (run["data"], run["images"]))
    runs = [run | {"method": run["method"].replace("auto", "auto, the default")} for run in runs]
    if runs:
        lines += ["", f"From the backbone, by images a class ({methods['machine']}):", ""]
        lines += tabulate(runs, lambda run: run["method"], lambda run: f"{run['data']}, {run['images']}", "test")
    if ablated["runs"]:
        lines += ["", "Choices of the recipe from scratch, validation accuracy:", ""]
        lines += tabulate(ablated["runs"], lambda run: run["variant"], lambda run: run["data"], "val_accuracy")
    return lines


def main() -> None:
    write_file(PAGE, page_with(PAGE.read_text(encoding="utf-8"), BEGIN, list_tables(), END))


if __name__ == "__main__":
    main()
