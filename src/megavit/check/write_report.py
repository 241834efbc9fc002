"""The folder that a check writes: check.csv and check.html."""

from collections.abc import Iterator
from pathlib import Path

from megavit.check.check import CheckResult
from megavit.check.finding import label_of
from megavit.check.page import checked_page
from megavit.data.sources.demo import PREFIX
from megavit.errors import OutputError
from megavit.runtime.csv_files import csv_text
from megavit.runtime.storage import check_writable, write_file, writing

TABLE, PAGE = "check.csv", "check.html"


def check_output_folder(out: Path, source: str) -> None:
    """Refuse a folder with anything in it, one that cannot be written, and one within the data.

    Raises:
        OutputError: saying what to choose instead.
    """
    with writing("the check", out):
        if out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out} is not empty; choose a new folder with --out")
        data = Path(source)
        if not source.startswith(PREFIX) and data.is_dir() and out.resolve().is_relative_to(data.resolve()):
            raise OutputError(
                f"{out} lies within the data, {source}, and would become a class of it; choose a place outside with "
                "--out"
            )
    check_writable(out, "the check", need=0)


def write_report(out: Path, checked: CheckResult, left_out: str) -> None:
    """Write the table and the page into `out`; `left_out` is why labels were not judged, "" where they were.

    Raises:
        OutputError: when they cannot be written.
    """
    with writing("the check", out):
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / TABLE, checked_csv(checked))
        write_file(out / PAGE, checked_page(checked, left_out))


COLUMNS = ("kind", "severity", "image", "other_image", "label", "suggested_label", "score", "reason")


def checked_csv(checked: CheckResult) -> bytes:
    """The table, in UTF-8; names that are not text are written as the bytes they are.

    Of a group of copies, each one but the first has a line, with the first as the other image. What concerns whole
    classes, and files that need not be looked at, are not in it.
    """
    return csv_text(COLUMNS, _rows(checked))


def _rows(checked: CheckResult) -> Iterator[tuple[str, ...]]:
    labels = {sample.name: label_of(sample, checked.images.classes) for sample in checked.images.samples}
    for finding in checked.findings:
        if finding.severity == "note":
            continue
        several = len(finding.images) > 1
        for name in finding.images[1:] if several else finding.images:
            other = finding.images[0] if several else ""
            score = "" if finding.score is None else f"{finding.score:.4f}"
            label = labels.get(name, "")
            yield finding.kind, finding.severity, name, other, label, finding.suggested, score, finding.sentence
