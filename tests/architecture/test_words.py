"""Names that only this project used are gone: code says what the field says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

WORDS = """
Ranks crew Team Alone players rejoin mark_begun
Feed Silent Stride ByEpochs TimePlan ByClock Rung climb Frozen set_free go_on_tuning Judged judge go_on
fit_through_spikes update_average lighten AT_ONCE COMPARED FINISH_DRAWINGS MOST_TOLD PARTING out_of_fold relaid
settle_balance settle_layout settle_precision settle_mixing
Study studied TrustMetrics Trust Trusted Likeness unlike_training unlike_from Arrivals Seen likelier_mass
LabelsMetrics ScoreMetrics measure_labels measure_scores
Desk Room Lingering TimedProtocol ServedModel Refusal Guard by_predictor by_exported
Foreign Piece Rule Whole proofs outgoing
Pictures LabelledImages StandIns stand_in Placed Answering BatchOrder windows_of batches_of in_turn
in_processes read_data targets_of LONGEST check_whole Diverged LostProcess
told optimiser normalise Doubts near_copies
"""
"""Classes, functions, variables and modules, each replaced by the usual term."""
RETIRED = frozenset(WORDS.split())


def identifiers(path: Path) -> Iterator[str]:
    """Yield the names that a module gives to anything, and its own."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr
            case ast.keyword(arg=str(name)):
                yield name


def test_retired_names_do_not_come_back() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for top in ("src", "tests", "benchmarks")
        for path in (ROOT / top).rglob("*.py")
        for name in RETIRED & set(identifiers(path))
    }
    assert found == set()


def test_identifiers_are_spelled_as_in_american_english() -> None:
    british = re.compile(r"(colour|normalis|optimis|initialis|quantis|labelled|neighbour|grey|centre)", re.IGNORECASE)
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for top in ("src", "benchmarks")
        for path in (ROOT / top).rglob("*.py")
        for name in identifiers(path)
        if british.search(name)
    }
    assert found == set()
