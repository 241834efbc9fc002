"""The ablations' figures for people: a table in docs/benchmarks.md, from results/learning/ablate.json.

python -m benchmarks.learning.ablate_table
"""

from statistics import median
from typing import Any

from benchmarks.learning.ablate import FILE
from benchmarks.learning.report import DOCS
from benchmarks.learning.results import read_results
from benchmarks.pages import page_with
from megavit.runtime.storage import write_file

BEGIN, END = "<!-- ablations: written by `python -m benchmarks.learning.ablate_table` -->", "<!-- end of ablations -->"


def table(runs: list[dict[str, Any]]) -> list[str]:
    """A row a variant, a column a budget; each cell the median over seeds, and the seeds' own figures."""
    budgets = sorted({run["budget"] for run in runs})
    cells: dict[tuple[str, int], list[float]] = {}
    costs: dict[str, list[float]] = {}
    for run in runs:
        cells.setdefault((run["variant"], run["budget"]), []).append(run["val_accuracy"])
        costs.setdefault(run["variant"], []).append(run["cost"])
    heads = [f"time of {budget:,} steps" for budget in budgets]
    lines = [f"| variant | cost of a step | {' | '.join(heads)} |", "|---" * (2 + len(budgets)) + "|"]
    for variant in costs:
        found = [_cell(cells.get((variant, budget), [])) for budget in budgets]
        lines.append(f"| {variant} | {median(costs[variant]):.2f} | {' | '.join(found)} |")
    return lines


def _cell(accuracies: list[float]) -> str:
    if len(accuracies) < 2:
        return f"{accuracies[0]:.1%}" if accuracies else "–"
    return f"{median(accuracies):.1%} ({', '.join(f'{accuracy:.1%}' for accuracy in sorted(accuracies))})"


def main() -> None:
    page = DOCS / "benchmarks.md"
    lines = table(read_results(FILE)["runs"])
    write_file(page, page_with(page.read_text(encoding="utf-8"), BEGIN, lines, END))


if __name__ == "__main__":
    main()
