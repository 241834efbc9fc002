"""What one, two and four processes learn from the same images: trained once for all tests of this folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from megavit.distributed.context import ParallelContext
from tests.helpers.distributed import dist_2proc
from tests.helpers.distributed.torchrun import torchrun
from tests.helpers.distributed.training import DESIGNS, fresh, save, steps, task_of
from tests.helpers.shared_folder import BuildOnce


@pytest.fixture(scope="session")
def alone() -> dict[str, list[float]]:
    found = {design: steps(fresh(task_of(), ParallelContext(), DESIGNS[design]), task_of()) for design in DESIGNS}
    low = task_of(precision="bfloat16")
    found["bfloat16"] = steps(fresh(low, ParallelContext()), low)
    return found | {"muon": steps(fresh(task_of("muon"), ParallelContext(), DESIGNS["serial"]), task_of("muon"))}


@pytest.fixture(scope="session")
def folder(build_once: BuildOnce) -> Path:
    """What one process, then two, then four wrote: answers as 2.json and 4.json, and checkpoints."""

    def fill(folder: Path) -> None:
        state = fresh(task_of(), ParallelContext())
        steps(state, task_of(), dist_2proc.SAVED)
        save(state, folder / "one")
        for procs in (2, 4):
            torchrun(procs, f"tests.helpers.distributed.dist_{procs}proc", folder)
            (folder / "answer.json").rename(folder / f"{procs}.json")

    return build_once("distributed", fill)


@pytest.fixture(scope="session")
def of_two(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "2.json").read_text())


@pytest.fixture(scope="session")
def of_four(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "4.json").read_text())
