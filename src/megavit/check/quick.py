"""What shows without looking at a pixel, in a moment, for a training run to tell before it begins."""

from collections import Counter, defaultdict

from megavit.check.classes import class_findings
from megavit.check.copies import copy_findings, exact_pairs
from megavit.check.files import file_findings
from megavit.check.finding import KINDS, Finding, Kind, worst_first
from megavit.check.shapes import shape_findings
from megavit.data.samples import LabelledImages

WORTH_A_WORD: tuple[Kind, ...] = ("leak", "conflict", "spelling", "missing", "few", "tiny")
"""Of these a run tells: it says of itself what it skips and that classes are uneven."""
MOST_LINES = 3


def quick_findings(images: LabelledImages) -> list[Finding]:
    """Skipped files, identical files, odd sizes, uneven classes; the worst first. No file is opened."""
    return worst_first(
        [
            *file_findings(images),
            *copy_findings(images, exact_pairs(images.samples)),
            *class_findings(images),
            *shape_findings(images),
        ]
    )


def warnings_of(images: LabelledImages) -> list[str]:
    """Return at most `MOST_LINES` lines for a person who wants to train, the most serious first."""
    return list(images.once(_warnings))


def _warnings(images: LabelledImages) -> list[str]:
    by_kind: dict[Kind, list[Finding]] = defaultdict(list)
    for finding in quick_findings(images):
        by_kind[finding.kind].append(finding)
    told = [kind for kind in by_kind if kind in WORTH_A_WORD]
    lines = [_line(kind, by_kind[kind]) for kind in told[:MOST_LINES]]
    if lines:
        lines[-1] += f"; megavit check {'lists them' if len(told) <= MOST_LINES else 'has more'}"
    return lines


def _line(kind: Kind, findings: list[Finding]) -> str:
    sentences = Counter(finding.sentence for finding in findings).most_common()
    others = f", and {len(findings) - sentences[0][1]:,} more" if len(sentences) > 1 else ""
    return f"{KINDS[kind].title}: {sentences[0][0]}, {_times(sentences[0][1])}{others}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
