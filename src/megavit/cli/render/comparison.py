"""Two bundles beside each other: on the terminal, and a row for each image that they answer otherwise."""

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


def check_changes(output: Path | None) -> None:
    """Raise an OutputError unless images can be listed in that file."""
    check_output(output)
    check_new(output, "the list of images")


def write_changes(output: Path, changed: Iterable[Disagreement]) -> None:
    """A new .csv or .jsonl file, a line an image.

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
                file.writelines(json_line(asdict(one)) for one in changed)
                return
            table = CsvWriter(file)
            table.writerow(columns)
            for one in changed:
                table.writerow([_cell(getattr(one, column)) for column in columns])


def show_comparison(found: Comparison, changed: int, a: str, b: str) -> None:
    """How far apart the two are, and whether that is more than chance.

    Args:
        changed: images answered otherwise.
        a, b: the bundles, as the user named them.
    """
    results.print(f"\nA {a}\nB {b}", style="bold")
    rows = [
        [one.metric, format_value(one.metric, one.a), format_value(one.metric, one.b), format_difference(one)]
        for one in found.differences
    ]
    print_table("", ["", "A", "B", "A - B, paired"], rows)
    if found.p is not None:
        results.print(
            f"right: only A {found.only_a:,}, only B {found.only_b:,}, both {found.both:,}, neither {found.neither:,}"
        )
    results.print(f"answered otherwise: {changed:,} of {found.images:,} images")
    results.print(describe_comparison(found))


def _cell(value: str | float | None) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.6f}"
        case _:
            return value
