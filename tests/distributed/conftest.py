"""What one, two and four processes learn from the same images: trained once for all tests of this folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from megavit.distributed.context import ParallelContext
from tests.helpers.distributed import dist_2proc
from tests.helpers.distributed.torchrun import torchrun
from tests.helpers.distributed.training import DESIGNS, make_state, make_task, save_state, train_steps
from tests.helpers.shared_folder import BuildOnce


@pytest.fixture(scope="session")
def alone() -> dict[str, list[float]]:
    found = {
        design: train_steps(make_state(make_task(), ParallelContext(), DESIGNS[design]), make_task())
        for design in DESIGNS
    }
    low = make_task(precision="bfloat16")
    found["bfloat16"] = train_steps(make_state(low, ParallelContext()), low)
    return found | {
        "muon": train_steps(make_state(make_task("muon"), ParallelContext(), DESIGNS["serial"]), make_task("muon"))
    }


@pytest.fixture(scope="session")
def folder(build_once: BuildOnce) -> Path:
    """What one process, then two, then four wrote: answers as 2.json and 4.json, and checkpoints."""

    def fill(folder: Path) -> None:
        state = make_state(make_task(), ParallelContext())
        train_steps(state, make_task(), dist_2proc.SAVED)
        save_state(state, folder / "one")
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
