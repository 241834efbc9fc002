"""Runs that are ended from outside, and resumed: processes and signals are real."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import run_megavit
from tests.helpers.shared_folder import BuildOnce
from tests.helpers.training_process import QUICK, read_weights, start_training, wait_for_step


@pytest.fixture(scope="session")
def undisturbed(digits: Path, build_once: BuildOnce) -> Path:
    """A run that nobody stopped."""

    def fill(folder: Path) -> None:
        assert run_megavit("train", digits, "--out", "run", *QUICK, cwd=folder).returncode == 0

    return build_once("undisturbed", fill) / "run"


def test_a_killed_run_resumes_to_the_same_weights(digits, undisturbed, tmp_path):
    out = tmp_path / "run"
    process = start_training(digits, "--out", out, *QUICK)
    wait_for_step(process, out, 5)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (out / "bundle").exists()
    resumed = run_megavit("train", "--resume", out, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert read_weights(out) == read_weights(undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_says_how_to_resume(digits, undisturbed, tmp_path, number):
    out = tmp_path / "run"
    process = start_training(digits, "--out", out, *QUICK)
    wait_for_step(process, out, 2)
    os.kill(process.pid, number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert b"all progress is saved" in errors and b"--resume" in errors and b"Traceback" not in errors
    if number == signal.SIGTERM:
        assert run_megavit("train", "--resume", out, cwd=tmp_path).returncode == 0
        assert read_weights(out) == read_weights(undisturbed)


def test_resuming_a_finished_run_writes_the_same_bundle_again(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "bundle" / "model.safetensors").unlink()
    assert run_megavit("train", "--resume", "run", cwd=tmp_path).returncode == 0
    assert read_weights(tmp_path / "run") == read_weights(undisturbed)


def test_a_run_whose_images_have_changed_is_not_resumed(digits, undisturbed, tmp_path):
    shutil.copytree(digits, tmp_path / "data")
    (tmp_path / "data" / "digit 0" / "000.png").unlink()
    shutil.copytree(undisturbed, tmp_path / "run")
    refused = run_megavit("train", "data", "--resume", "run", cwd=tmp_path)
    assert refused.returncode == 2 and "has changed since the run began" in refused.stderr


def test_a_run_that_another_process_trains_is_left_to_it(digits, tmp_path):
    out = tmp_path / "run"
    process = start_training(digits, "--out", out, *QUICK)
    wait_for_step(process, out, 1)
    process.send_signal(signal.SIGSTOP)  # so that it is there for as long as the second one looks
    try:
        refused = run_megavit("train", "--resume", out, cwd=tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert refused.returncode == 2 and "another process is training" in refused.stderr


def test_a_stop_while_the_command_is_still_being_imported_is_no_traceback(tmp_path):
    (tmp_path / "cyclopts.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "megavit", "demo"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, b"megavit: stopped\n")
