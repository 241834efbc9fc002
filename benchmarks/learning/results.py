"""The measured figures, as JSON files beside the scripts, each with the machine it was measured on."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from megavit.runtime.device import device_name
from megavit.runtime.storage import write_file

RESULTS = Path(__file__).parents[1] / "results" / "learning"


def read_results(path: Path) -> dict[str, Any]:
    """The content of a results file; a new one, with this machine and no runs, where there is none yet."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    versions = {name: version(name) for name in ("torch", "timm", "vit-pytorch")}
    return {"machine": device_name(torch.device("cpu")), "versions": versions, "runs": []}


def is_measured(path: Path, about: dict[str, Any]) -> bool:
    """Return whether a results file has a run with these fields."""
    return any(about.items() <= run.items() for run in read_results(path)["runs"])


def add_run(path: Path, run: dict[str, Any]) -> None:
    """Append a run to a results file, which another process may have changed meanwhile, and print it."""
    results = read_results(path)
    results["runs"].append(run)
    write_results(path, results)
    sys.stdout.write(f"{run}\n")
    sys.stdout.flush()


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write the file as a whole or not at all; a line a run."""
    head = {name: value for name, value in results.items() if name != "runs"}
    runs = ",\n".join(json.dumps(run, allow_nan=False) for run in results["runs"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(head, indent=1)[:-2] + f',\n "runs": [\n{runs}\n]}}\n')
