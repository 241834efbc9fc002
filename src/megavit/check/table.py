"""check.csv: a line for each image to look at, the best first."""

import csv
import io

from megavit.check.check import Checked
from megavit.check.finding import label_of

COLUMNS = ("kind", "severity", "image", "other_image", "label", "suggested_label", "score", "reason")


def checked_csv(checked: Checked) -> bytes:
    """The table, in UTF-8; names that are not text are written as the bytes they are.

    Of a group of copies, each one but the first has a line, with the first as the other image. What concerns whole
    classes, and files that need not be looked at, are not in it.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerow(COLUMNS)
    labels = {sample.name: label_of(sample, checked.images.classes) for sample in checked.images.samples}
    for finding in checked.findings:
        if finding.severity == "note":
            continue
        several = len(finding.images) > 1
        for name in finding.images[1:] if several else finding.images:
            other = finding.images[0] if several else ""
            score = "" if finding.score is None else f"{finding.score:.4f}"
            label = labels.get(name, "")
            table.writerow(
                (finding.kind, finding.severity, name, other, label, finding.suggested, score, finding.sentence)
            )
    return text.getvalue().encode("utf-8", "surrogateescape")
