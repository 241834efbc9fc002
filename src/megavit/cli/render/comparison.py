"""Show how two bundles compare, and list the images for which they differ."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from megavit.cli.console import print_table, results
from megavit.cli.writers.line_file import LineFile
from megavit.evaluation.compare import Comparison, Disagreement
from megavit.evaluation.report.text import describe_comparison, format_difference, format_value


def write_disagreements(path: Path, disagreements: Iterable[Disagreement]) -> None:
    """Write a new .csv or .jsonl file with one line per image.

    Raises:
        OutputError: if it exists or cannot be written.
    """
    columns = [field.name for field in fields(Disagreement)]
    with LineFile(path, "the list of images", columns, keep_empty=True) as file:
        for disagreement in disagreements:
            values = asdict(disagreement)
            file.write([_cell(value) for value in values.values()] if file.is_csv else values)


def show_comparison(comparison: Comparison, disagreements: int, a: str, b: str) -> None:
    """Print how much bundles `a` and `b` differ, and whether significantly."""
    results.print(f"\nA {a}\nB {b}", style="bold")
    rows = [
        [
            difference.metric,
            format_value(difference.metric, difference.a),
            format_value(difference.metric, difference.b),
            format_difference(difference),
        ]
        for difference in comparison.differences
    ]
    print_table("", ["", "A", "B", "A - B, paired"], rows)
    if comparison.p_value is not None:
        results.print(
            f"correct: only A {comparison.only_a:,}, only B {comparison.only_b:,}, both {comparison.both:,}, neither "
            f"{comparison.neither:,}"
        )
    results.print(f"prediction differs: {disagreements:,} of {comparison.images:,} images")
    results.print(describe_comparison(comparison))


def _cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else value
