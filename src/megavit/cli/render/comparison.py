"""Show a comparison of two bundles on the terminal, and write the images for which they predict differently."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from megavit.cli.console import json_line, print_table, results
from megavit.cli.writers.predictions import check_output
from megavit.errors import OutputError
from megavit.evaluate.compare import Comparison, Disagreement
from megavit.evaluate.report.text import describe_comparison, format_difference, format_value
from megavit.runtime.csv_files import CsvWriter
from megavit.runtime.storage import writing


def check_new(file: Path | None, what: str) -> None:
    """Raise an OutputError where a file, which is only written at the end, could not be."""
    if file is None:
        return
    if file.exists():
        raise OutputError(f"{file} is there already; move it away or choose another name for {what}")
    if not file.absolute().parent.is_dir():
        raise OutputError(f"there is no folder {file.absolute().parent} for {what}; make it, or choose another")


def check_disagreements_file(output: Path | None) -> None:
    """Raise an OutputError unless images can be listed in that file."""
    check_output(output)
    check_new(output, "the list of images")


def write_disagreements(output: Path, disagreements: Iterable[Disagreement]) -> None:
    """Write a new .csv or .jsonl file with a line for each image.

    Raises:
        OutputError: where it cannot be written, or has come to be there.
    """
    columns = [field.name for field in fields(Disagreement)]
    with writing("the list of images", output):
        try:
            file = output.open("x", encoding="utf-8", errors="surrogateescape", newline="")
        except FileExistsError:
            raise OutputError(f"{output} is there already; move it away or choose another name") from None
        with file:
            if output.suffix == ".jsonl":
                file.writelines(json_line(asdict(one)) for one in disagreements)
                return
            table = CsvWriter(file)
            table.writerow(columns)
            for one in disagreements:
                table.writerow([_cell(getattr(one, column)) for column in columns])


def show_comparison(comparison: Comparison, disagreements: int, a: str, b: str) -> None:
    """Print how far apart the two bundles are, and whether that is more than chance.

    Args:
        disagreements: images predicted differently.
        a, b: the bundles, as the user named them.
    """
    results.print(f"\nA {a}\nB {b}", style="bold")
    rows = [
        [one.metric, format_value(one.metric, one.a), format_value(one.metric, one.b), format_difference(one)]
        for one in comparison.differences
    ]
    print_table("", ["", "A", "B", "A - B, paired"], rows)
    if comparison.p_value is not None:
        counts = ("only A", comparison.only_a), ("only B", comparison.only_b), ("both", comparison.both)
        named = ", ".join(f"{name} {count:,}" for name, count in (*counts, ("neither", comparison.neither)))
        results.print(f"correct: {named}")
    results.print(f"predicted differently: {disagreements:,} of {comparison.images:,} images")
    results.print(describe_comparison(comparison))


def _cell(value: str | float | None) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.6f}"
        case _:
            return value
