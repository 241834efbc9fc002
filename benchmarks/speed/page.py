"""What `megavit bench --out` measured, as tables in docs/benchmarks.md.

megavit bench --out benchmarks/results/speed/MACHINE.json
python -m benchmarks.speed.page benchmarks/results/speed/epyc_2_threads.json \\
  --ratios benchmarks/results/speed/epyc_zen5_*.json

A lesser processor: ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 megavit bench.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.pages import page_with
from megavit.bench.instructions import describe_limits
from megavit.runtime.storage import write_file

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- speed: written by `python -m benchmarks.speed.page` -->", "<!-- end of speed -->"
BEGIN_RATIOS, END_RATIOS = "<!-- ratios: written by `python -m benchmarks.speed.page` -->", "<!-- end of ratios -->"
OURS = "megavit"


def tables(figures: dict[str, Any]) -> list[str]:
    """A heading for the machine, and a table a case, the fastest contender first."""
    lines = heading(figures)
    for case in figures["cases"]:
        with_memory = any("memory" in entry for entry in case["entries"])
        heads = [case["title"], "ms", "±", "images/s", "share of matmul speed", "megavit speedup"]
        heads += ["memory"] if with_memory else []
        if case["entries"]:
            lines += [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
            lines += [f"| {' | '.join(_row(entry, with_memory))} |" for entry in case["entries"]]
            lines.append("")
        if "note" in case:
            lines += [f"{case['title']}: {case['note']}.", ""]
    return lines[:-1]


def ratios(figures: dict[str, Any]) -> list[str]:
    """A heading for the machine, and one table: a row a case, with every contender's time relative to megavit's."""
    cases = {case["title"]: {entry["name"]: entry for entry in case["entries"]} for case in figures["cases"]}
    names = list(dict.fromkeys(contender_of(name) for entries in cases.values() for name in entries))
    names = [name for name in names if name != OURS]
    names.sort(key=lambda name: (name.endswith("in PyTorch"), name))
    lines = [*heading(figures), f"| | {OURS}, ms | {' | '.join(names)} |", f"|---|---:|{'---:|' * len(names)}"]
    for title, entries in cases.items():
        speedups = {contender_of(name): f"{entry['megavit_speedup']:.2f}" for name, entry in entries.items()}
        ours = f"{entries[OURS]['seconds'] * 1e3:.1f}" if entries else "none"
        lines.append(f"| {title} | {ours} | {' | '.join(speedups.get(name, '-') for name in names)} |")
    notes = [f"{case['title']}: {case['note']}." for case in figures["cases"] if "note" in case]
    return [*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]


def contender_of(name: str) -> str:
    """The library and runtime of a contender, without how its model was quantized or what limits it."""
    return name.partition(",")[0]


def heading(figures: dict[str, Any]) -> list[str]:
    """The machine, the versions and the instructions."""
    versions = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    limits = figures.get("limits", {})
    limited = f", limited to {limits.get('ONEDNN_MAX_CPU_ISA', 'fewer instructions')}" if limits else ""
    lines = [f"### {figures['machine']}{limited}", "", f"{versions}.", ""]
    if "instructions" in figures:
        lines += [f"Instructions: {', '.join(figures['instructions'])}.", ""]
    if limits:
        lines += [f"{describe_limits(limits)}.", ""]
    return lines


def _row(entry: dict[str, Any], with_memory: bool) -> list[str]:
    cells = [
        entry["name"],
        f"{entry['seconds'] * 1e3:.1f}",
        f"{entry['relative_iqr'] / 2:.0%}",
        f"{entry['images_per_second']:.1f}",
        f"{entry['matmul_share']:.0%}" if "matmul_share" in entry else "-",
        f"{entry['megavit_speedup']:.2f}",
    ]
    return [*cells, f"{entry['memory'] / 2**20:,.0f} MiB"] if with_memory else cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="shown with all figures")
    parser.add_argument("--ratios", type=Path, nargs="+", default=[], help="shown as one table each")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    page = page_with(page, BEGIN, _sections(tables, arguments.files), END)
    if arguments.ratios:
        page = page_with(page, BEGIN_RATIOS, _sections(ratios, arguments.ratios), END_RATIOS)
    write_file(PAGE, page)


def _sections(render: Callable[[dict[str, Any]], list[str]], files: Sequence[Path]) -> list[str]:
    lines: list[str] = []
    for file in files:
        lines += [*([""] if lines else []), *render(json.loads(file.read_text(encoding="utf-8")))]
    return lines


if __name__ == "__main__":
    main()
