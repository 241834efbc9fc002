"""Training runs that are killed after any step, or on a budget of time, and resumed."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from megavit.training.checkpoint.checkpoint import list_checkpoints
from megavit.training.clock import LAST_STEPS
from tests.helpers.command_line import run_megavit
from tests.helpers.shared_folder import BuildOnce
from tests.helpers.training import read_validations
from tests.helpers.training_process import QUICK, read_manifest, read_weights, start_training, wait_for_step

pytestmark = pytest.mark.drill

ROOT = Path(__file__).parents[2]
KILLS = 20


def train_until(out: Path, last: int) -> int:
    """Train in another process that is killed after the step `last`, never for 0; return its exit code."""
    command = [sys.executable, "-m", "tests.helpers.train_until_killed", str(out), str(last)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


@pytest.fixture(scope="session")
def undisturbed_demo(build_once: BuildOnce) -> Path:
    """A run on the demo's digits that nobody killed."""

    def fill(folder: Path) -> None:
        assert train_until(folder / "run", 0) == 0

    return build_once("undisturbed demo", fill) / "run"


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_run_that_is_killed_after_any_step_resumes_to_the_same_weights(undisturbed_demo, tmp_path, seed):
    steps = int(list_checkpoints(undisturbed_demo / "checkpoints")[0].name.removeprefix("step-"))
    out = tmp_path / "run"
    assert train_until(out, random.Random(seed).randrange(1, steps)) == -signal.SIGKILL
    resumed = run_megavit("train", "--resume", out, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert read_weights(out) == read_weights(undisturbed_demo)


def test_a_cross_validation_that_is_killed_in_its_second_fold_resumes_to_the_same_weights(tmp_path):
    settings = ("demo:digits", "--folds", "2", *QUICK)
    whole = run_megavit("train", *settings, "--out", tmp_path / "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "killed"
    process = start_training(*settings, "--out", out)
    wait_for_step(process, out / "folds" / "2", 2)
    process.kill()
    process.communicate()
    assert not (out / "folds" / "2" / "fold.json").exists()
    resumed = run_megavit("train", "--resume", out, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (out / "predictions.csv").read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()
    for fold in ("1", "2"):
        assert read_weights(out / "folds" / fold) == read_weights(tmp_path / "whole" / "folds" / fold)


def test_a_run_on_a_budget_of_time_that_is_killed_ends_in_its_time_when_resumed(tmp_path):
    minutes, out = 0.3, tmp_path / "run"
    process = start_training("demo:digits", "--out", out, "--minutes", str(minutes), "--device", "cpu")
    wait_for_step(process, out, 1)
    process.kill()
    process.communicate()
    used = read_manifest(out)
    resumed = run_megavit("train", "--resume", out, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    *_, last = read_validations(out)
    # A busy machine may have come to the end before the kill did.
    assert used["progress"] == 1 or used["seconds"] < last["seconds"]
    # On a machine so busy that starting again takes all the time, there are only the steps that lower the rate.
    few = last["step"] - used["step"] <= LAST_STEPS
    assert last["seconds"] < minutes * 60 or few
    assert last["learning_rate"] < 0.1 * 3e-3 or few
