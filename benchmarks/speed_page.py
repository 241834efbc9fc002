"""What `megavit bench --out` measured, as tables in docs/benchmarks.md.

megavit bench --out benchmarks/results/speed/MACHINE.json
python -m benchmarks.speed_page benchmarks/results/speed/*_threads*.json

For a lesser processor, put ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 before it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.pages import page_with
from megavit.bench.instructions import describe_limits
from megavit.runtime.storage import write_file

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- speed: written by `python -m benchmarks.speed_page` -->", "<!-- end of speed -->"


def tables(figures: dict[str, Any]) -> list[str]:
    """A heading for the machine, and a table a case, the fastest contender first."""
    versions = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    limits = figures.get("limits", {})
    limited = f", limited to {limits.get('ONEDNN_MAX_CPU_ISA', 'fewer instructions')}" if limits else ""
    lines = [f"### {figures['machine']}{limited}", "", f"{versions}.", ""]
    if "instructions" in figures:
        lines += [f"Instructions: {', '.join(figures['instructions'])}.", ""]
    if limits:
        lines += [f"{describe_limits(limits)}.", ""]
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
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    lines: list[str] = []
    for file in arguments.files:
        lines += [*([""] if lines else []), *tables(json.loads(file.read_text(encoding="utf-8")))]
    write_file(PAGE, page_with(PAGE.read_text(encoding="utf-8"), BEGIN, lines, END))


if __name__ == "__main__":
    main()
