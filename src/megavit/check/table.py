"""check.csv: a line for each image to look at, the best first."""

from collections.abc import Iterator

from megavit.check.check import Checked
from megavit.check.finding import label_of
from megavit.runtime.csv_files import csv_text

COLUMNS = ("kind", "severity", "image", "other_image", "label", "suggested_label", "score", "reason")


def checked_csv(checked: Checked) -> bytes:
    """The table, in UTF-8; names that are not text are written as the bytes they are.

    Of a group of copies, each one but the first has a line, with the first as the other image. What concerns whole
    classes, and files that need not be looked at, are not in it.
    """
    return csv_text(COLUMNS, _rows(checked))


def _rows(checked: Checked) -> Iterator[tuple[str, ...]]:
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
