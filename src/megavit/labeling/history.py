"""Find out which decisions of a log are undone, and which strokes can be."""

from collections.abc import Iterable, Sequence

from megavit.data.sources.label_log import Decision

UNDOES = "~"
"""Sign in the identifier of a stroke, before that of the stroke which it undoes."""
MAX_STROKES = 100
"""Number of strokes that can be undone after a page was loaded."""


def drop_undone(decisions: Iterable[Decision]) -> list[Decision]:
    """Return the decisions on one image as if those that were undone had never been."""
    kept: list[Decision] = []
    for decision in decisions:
        _, sign, undone = decision.stroke.partition(UNDOES)
        if sign and kept and kept[-1].stroke == undone:
            kept.pop()
        else:
            kept.append(decision)
    return kept


def find_undoable(decisions: Sequence[Decision], by: str) -> dict[str, list[str]]:
    """Return the last strokes of a user that are not undone, the first of them first, each with its images."""
    found: dict[str, list[str]] = {}
    undone = {decision.stroke.partition(UNDOES)[2] for decision in decisions}
    for decision in reversed(decisions):
        if not by or decision.by != by or UNDOES in decision.stroke or decision.stroke in undone:
            continue
        if decision.stroke not in found and len(found) == MAX_STROKES:
            break
        found.setdefault(decision.stroke, []).append(decision.path)
    return dict(reversed(found.items()))
