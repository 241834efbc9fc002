"""Several processes that train together, and what happens when some of them do not: all is real."""

import os
import signal
from pathlib import Path

import pytest

from megavit.training.checkpoint.checkpoint import list_checkpoints
from tests.helpers.command_line import run_megavit, run_megavit_json, run_megavit_process
from tests.helpers.shared_folder import BuildOnce
from tests.helpers.training_process import (
    QUICK,
    TWO,
    find_workers,
    read_weights,
    start_training,
    wait_for_step,
    wait_until_gone,
)


@pytest.fixture(scope="session")
def undisturbed_two(digits: Path, build_once: BuildOnce) -> Path:
    """A run of two processes that nobody stopped."""

    def fill(folder: Path) -> None:
        (folder / "tmp").mkdir()
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("TMPDIR", str(folder / "tmp"))
            done = run_megavit_process("train", digits, "--out", "run", *QUICK, *TWO, cwd=folder)
        assert done.returncode == 0, done.stderr
        left = [path.name for path in (folder / "tmp").iterdir() if not path.name.startswith("torchinductor")]
        assert left == []  # of the processes, nor of those that watch over them

    return build_once("undisturbed of two", fill) / "run"


def test_two_processes_make_a_bundle_like_one(digits, undisturbed_two, tmp_path):
    evaluation = run_megavit_json("evaluate", undisturbed_two / "bundle", digits, cwd=tmp_path)
    assert evaluation["metrics"]["accuracy"]["value"] > 0.6
    checkpoint = list_checkpoints(undisturbed_two / "checkpoints")[0]
    assert {path.name for path in checkpoint.iterdir()} >= {"__0_0.distcp", "__1_0.distcp", "manifest.json"}


@pytest.mark.drill
def test_killed_processes_are_started_again_and_a_killed_agent_leaves_none_behind(digits, undisturbed_two, tmp_path):
    out = tmp_path / "run"
    process = start_training(digits, "--out", out, *QUICK, *TWO)
    wait_for_step(process, out, 2)
    before = find_workers(out)
    os.kill(max(before), signal.SIGKILL)
    wait_for_step(process, out, 7)
    assert not set(before) & set(find_workers(out))
    process.kill()
    process.communicate()
    wait_until_gone(out)
    assert not (out / "bundle").exists()
    resumed = run_megavit_process("train", "--resume", out, *TWO, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert read_weights(out) == read_weights(undisturbed_two)


@pytest.mark.drill
def test_a_run_of_two_that_is_asked_to_stop_says_how_to_resume_and_one_process_can(digits, tmp_path):
    out = tmp_path / "run"
    process = start_training(digits, "--out", out, *QUICK, *TWO)
    wait_for_step(process, out, 2)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.count(b"all progress is saved") == 1 and b"--resume" in errors and b"Traceback" not in errors, errors
    wait_until_gone(out)
    assert run_megavit("train", "--resume", out, cwd=tmp_path).returncode == 0
    assert (out / "bundle").exists()


def test_processes_without_a_common_folder_are_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("megavit.runtime.process_group.die_with_parent", lambda: None)  # it would be this process
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    done = run_megavit("train", digits, "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 2 and "--out" in done.stderr
