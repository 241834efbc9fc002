"""Processes of distributed runs that are killed at random steps and inside checkpoints; torchrun starts them again.

Each loss of each step, the final weights, and the images of every epoch must be those of a run that nobody disturbed:
to the bit.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.distributed.torchrun import ROOT, TORCHRUN
from tests.helpers.distributed.train_with_kills import KILLS_A_RUN
from tests.helpers.training_process import find_workers, read_weights

pytestmark = pytest.mark.drill

LAYOUTS = {"DDP": (2, 1, 1), "FSDP2": (2, 2, 1), "HSDP": (4, 2, 1), "FSDP2 + TP": (4, 2, 2)}
"""Number of processes, size of the FSDP group, size of the tensor-parallel group."""
RUNS = 6
"""Of each layout; four kills are due in each."""


@dataclass
class Steps:
    """The last loss and image indices of each step in each process; `changed` counts repeated losses that differ."""

    losses: list[dict[int, float]]
    images: list[dict[int, list[int]]]
    changed: int = 0


def train(out: Path, layout: tuple[int, int, int], seed: int) -> None:
    processes, fsdp, tp = layout
    command = [sys.executable, *TORCHRUN, "--local-addr", "localhost", "--nproc-per-node", str(processes)]
    command += ["--max-restarts", str(KILLS_A_RUN + 1), "-m", "tests.helpers.distributed.train_with_kills"]
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(out), str(fsdp), str(tp), str(seed)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def read_steps(out: Path, processes: int) -> Steps:
    steps = Steps([], [])
    for rank in range(processes):
        losses: dict[int, float] = {}
        images: dict[int, list[int]] = {}
        for line in (out.parent / f"{out.name}-{rank}.jsonl").read_text().splitlines():
            step, loss, indices = json.loads(line)
            steps.changed += step in losses and losses[step] != loss
            losses[step], images[step] = loss, indices
        steps.losses.append(losses)
        steps.images.append(images)
    return steps


def assert_epochs_are_whole(images: list[dict[int, list[int]]], tp: int) -> None:
    """Each epoch has trained on every image once; processes of one tensor-parallel group see the same ones."""
    stream = [index for step in sorted(images[0]) for seen in images[::tp] for index in seen[step]]
    count = len(set(stream))
    for start in range(0, len(stream) - count + 1, count):
        assert len(set(stream[start : start + count])) == count


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_killed_processes_train_as_if_nothing_had_been(layout, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    train(undisturbed, layout, 0)
    expected = read_steps(undisturbed, layout[0])
    kills = 0
    for seed in range(1, RUNS + 1):
        out = tmp_path / f"killed-{seed}"
        train(out, layout, seed)
        steps = read_steps(out, layout[0])
        assert steps == expected  # also none of them changed
        assert_epochs_are_whole(steps.images, layout[2])
        assert read_weights(out) == read_weights(undisturbed)
        assert find_workers(out) == []
        kills += len((tmp_path / f"killed-{seed}-kills.jsonl").read_text().splitlines())
    assert kills >= 2 * RUNS
