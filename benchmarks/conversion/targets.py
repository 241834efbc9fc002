"""How far a bundle's answers move on every way out and back, and those of Hugging Face's models on the way in.

    python -m benchmarks.conversion.targets [--json FILE]

For each kind of target, plain and calibrated, small models with random weights answer for photographs; the figures are
the greatest difference of a probability, or of a score in standard deviations of those that the bundle was trained on.
Judges are the other libraries' own pipelines, transforms and runtimes. A refusal is told with its reason.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.conversion.cases import (
    ARCHITECTURES,
    CASES,
    PROBLEMS,
    REFUSED,
    write_case,
    write_photographs,
    write_transformers,
)
from benchmarks.conversion.ways import WAYS, difference, predict_with_bundle, predict_with_pipeline
from megavit.errors import MegavitError
from megavit.runtime.storage import write_file
from megavit.weights.bundle.bundle import read_info
from megavit.weights.pretrained.pretrained import load_pretrained
from megavit.weights.pretrained.to_bundle import convert_to_bundle

GOAL = 1e-4


def compare_exports(scratch: Path) -> dict[str, dict[str, float | str]]:
    """Return, by case and way, the difference, or why it is refused."""
    images = write_photographs(scratch / "photographs")
    found: dict[str, dict[str, float | str]] = {}
    for name, case in (CASES | REFUSED).items():
        bundle = write_case(scratch / "bundles" / name, case)
        found[name] = {}
        for title, way in WAYS.items():
            try:
                found[name][title] = difference(way, bundle, images, scratch / "way")
            except MegavitError as error:
                found[name][title] = f"refused: {error}"
    return found


def compare_imports(scratch: Path) -> dict[str, dict[str, float | str]]:
    """Return, by problem type and architecture, how far the converted bundle is from transformers' pipeline."""
    images = write_photographs(scratch / "photographs")
    found: dict[str, dict[str, float | str]] = {}
    for problem, (settings, kind) in PROBLEMS.items():
        found[problem] = {}
        for architecture in ARCHITECTURES:
            folder = write_transformers(scratch / "theirs" / f"{architecture} {problem}", architecture, settings)
            out = scratch / "ours" / f"{architecture} {problem}"
            convert_to_bundle(load_pretrained(str(folder)), out)
            info = read_info(out)
            assert info.target.kind == kind, (problem, info.target.kind)
            expected = predict_with_pipeline(folder, images, info.labels or ["LABEL_0"])
            found[problem][architecture] = float(np.abs(predict_with_bundle(out, images) - expected).max())
    return found


def as_table(title: str, found: dict[str, dict[str, float | str]]) -> Table:
    """Return a row a way, a column a case."""
    table = Table(title=title)
    table.add_column("")
    for case in found:
        table.add_column(case, justify="right")
    for way in next(iter(found.values())):
        cells = [row[way] for row in found.values()]
        table.add_row(way, *("refused" if isinstance(cell, str) else f"{cell:.1e}" for cell in cells))
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with TemporaryDirectory() as scratch:
        found = {"outward": compare_exports(Path(scratch)), "inward": compare_imports(Path(scratch))}
    console = Console(width=200)
    for title, part in found.items():
        console.print(as_table(title, part))
        for case, ways in part.items():
            for way, cell in ways.items():
                if isinstance(cell, str) or cell > GOAL:
                    console.print(f"{title}: {case}, {way}: {cell}")
    if arguments.json:
        write_file(arguments.json, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
