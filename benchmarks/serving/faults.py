"""What becomes of requests when something goes wrong: one row for each fault.

    python -m benchmarks.serving.faults BUNDLE [--output FILE]

Beside those who do wrong, four clients ask as usual; "lost" are their requests that got no answer, or one of 500 and
above. Where the server is ended, requests that were sent before count, and "lost" are those not answered with 200.
"healthy" is whether the server answers as before afterwards, "restarts" how often its worker had to be started again.
"""

import argparse
import asyncio
import json
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.serving.endings import ENDINGS
from benchmarks.serving.intrusions import INTRUSIONS, run_with_bystanders
from benchmarks.serving.processes import start_megavit
from benchmarks.serving.upheavals import SERVER_FAULTS
from megavit.bench.run import describe_machine
from megavit.weights.bundle.bundle import find_bundle

COLUMNS = ("requests", "answered", "lost", "statuses", "healthy", "restarts", "orphans")
OPTIONS = ("--read-timeout", "3")


async def measure(bundle: Path, folder: Path, rows: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with start_megavit(bundle, folder, *OPTIONS) as server:
        for name, intrusion in INTRUSIONS.items():
            if name in rows:
                sys.stderr.write(f"{name}\n")
                found[name] = await run_with_bystanders(server, intrusion)
        code, orphan_count = server.stop()
        found["end of the server"] = {"statuses": {f"exit code {code}": 1}, "orphans": orphan_count}
    for name, scenario in {**SERVER_FAULTS, **ENDINGS}.items():
        if name in rows:
            sys.stderr.write(f"{name}\n")
            found[name] = await scenario(bundle, folder)
    return found


def show(found: dict[str, dict[str, Any]]) -> None:
    table = Table("fault", *COLUMNS, "more")
    for name, row in found.items():
        more = {key: value for key, value in row.items() if key not in COLUMNS and not isinstance(value, list | dict)}
        cells = [row.get(column, "") for column in COLUMNS]
        table.add_row(name, *(_format_cell(cell) for cell in cells), _format_cell(more))
    Console(width=200).print(table)


def _format_cell(cell: Any) -> str:
    return ", ".join(f"{key}: {value}" for key, value in cell.items()) if isinstance(cell, dict) else str(cell)


def main() -> None:
    every = [*INTRUSIONS, *SERVER_FAULTS, *ENDINGS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rows", nargs="+", choices=every, default=every, metavar="ROW")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file for the result")
    arguments = parser.parse_args()
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    with TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(find_bundle(arguments.bundle.resolve()), Path(name), arguments.rows))
    show(found)
    if arguments.output:
        figures = describe_machine(torch.device("cpu")) | {"faults": found}
        arguments.output.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    lost = sum(row.get("lost", 0) for row in found.values())
    sys.exit(bool(lost or any(row.get("healthy") is False or row.get("orphans") for row in found.values())))


if __name__ == "__main__":
    main()
