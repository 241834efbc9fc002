"""Commands for several processes beside plain training: automatic settings, fine-tuning, and refusals said once."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from megavit.predict.predictor import load
from tests.helpers.command_line import run_megavit, run_megavit_process
from tests.helpers.digits import make_digits_folder
from tests.helpers.shared_folder import BuildOnce
from tests.helpers.training_process import (
    TWO,
    find_workers,
    read_manifest,
    start_training,
    wait_for_step,
)

pytestmark = pytest.mark.drill

CPU = ["--precision", "float32", "--device", "cpu"]
FLAGS = ["--epochs", "8", *CPU, "--batch-size", "16"]


@pytest.fixture(scope="session")
def place(build_once: BuildOnce) -> Path:
    """A folder with digits 0 to 4 in `before` and a run on them, and a few of 5 to 9 in `after`."""

    def fill(folder: Path) -> None:
        make_digits_folder(folder / "before", range(5), slice(0, None, 4))
        make_digits_folder(folder / "after" / "train", range(5, 10), slice(0, None, 15))
        make_digits_folder(folder / "after" / "test", range(5, 10), slice(1, None, 6))
        flags = ["--model", "pico", "--epochs", "4", *CPU, "--batch-size", "32", "--out", "run"]
        done = run_megavit("train", "before", *flags, cwd=folder)
        assert done.returncode == 0, done.stderr

    return build_once("parallel commands", fill)


def train(data: Path, *flags: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_megavit_process("train", data, "--out", "run", *flags, cwd=cwd)


def test_three_processes_have_an_automatic_batch_that_divides(place, tmp_path):
    done = train(place / "before", "--epochs", "1", "--nproc", "3", "--model", "pico", *CPU, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["recipe"]["run"]["batch_size"] % 3 == 0


def test_what_several_processes_cannot_do_is_said_once(place, tmp_path):
    done = train(place / "before", "--epochs", "1", *TWO, "--batch-size", "15", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("cannot be divided among 2 processes") == 1, done.stderr


def test_several_processes_choose_no_method_of_fine_tuning(place, tmp_path):
    done = train(place / "after", "--from", place / "run", *TWO, *FLAGS, cwd=tmp_path)
    assert done.returncode == 2 and "--finetune all" in done.stderr


def test_two_processes_fine_tune_as_one_does_also_after_one_of_them_was_killed(place, tmp_path):
    line = [place / "after", "--from", place / "run", "--finetune", "all", *FLAGS]
    one, two, stage = tmp_path / "one", tmp_path / "two", Path("stages") / "all"
    done = run_megavit("train", *line, "--out", one, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    process = start_training(*line, "--out", two, *TWO, "--fsdp", "2")
    wait_for_step(process, two / stage, 5)
    os.kill(max(find_workers(two)), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    histories = [read_manifest(folder / stage)["history"] for folder in (one, two)]
    losses = [[record["val_loss"] for record in history] for history in histories]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    weights = [load(folder).model.state_dict() for folder in (one, two)]
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=0)
