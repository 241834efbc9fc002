"""What one, two and four processes learn from the same images: trained once for all tests of this folder."""

from pathlib import Path
from typing import Any

import pytest

from megavit.distributed.context import ParallelContext
from tests.helpers.distributed import dist_2proc
from tests.helpers.distributed.torchrun import torchrun
from tests.helpers.distributed.training import DESIGNS, fresh, save, steps, task_of


@pytest.fixture(scope="session")
def alone() -> dict[str, list[float]]:
    found = {design: steps(fresh(task_of(), ParallelContext(), DESIGNS[design]), task_of()) for design in DESIGNS}
    low = task_of(precision="bfloat16")
    found["bfloat16"] = steps(fresh(low, ParallelContext()), low)
    return found | {"muon": steps(fresh(task_of("muon"), ParallelContext(), DESIGNS["serial"]), task_of("muon"))}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="session")
def of_two(folder: Path) -> dict[str, Any]:
    state = fresh(task_of(), ParallelContext())
    steps(state, task_of(), dist_2proc.SAVED)
    save(state, folder / "one")
    return torchrun(2, "tests.helpers.distributed.dist_2proc", folder)


@pytest.fixture(scope="session")
def of_four(of_two: dict[str, Any], folder: Path) -> dict[str, Any]:
    return torchrun(4, "tests.helpers.distributed.dist_4proc", folder)
