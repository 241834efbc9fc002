"""Runs that are ended from outside, and gone on with: processes and signals are real."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from megavit.train.checkpoint.checkpoint import list_checkpoints
from megavit.train.clock import LAST_STEPS
from tests.helpers.command_line import run_megavit

FLAGS = ["--epochs", "6", "--batch-size", "16", "--precision", "float32", "--device", "cpu"]
WEIGHTS = Path("bundle") / "model.safetensors"


@pytest.fixture(scope="module")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_megavit("train", digits, "--out", "run", *FLAGS, cwd=folder).returncode == 0
    return (folder / "run" / WEIGHTS).read_bytes()


def start(digits: Path, out: Path) -> subprocess.Popen[bytes]:
    """A run that writes a checkpoint after every step."""
    arguments = ["train", str(digits), "--out", str(out), *FLAGS, "--checkpoint-seconds", "0.0001"]
    return subprocess.Popen([sys.executable, "-m", "megavit", *arguments], stderr=subprocess.PIPE)


def wait_for_step(process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while not any(int(path.name.removeprefix("step-")) >= step for path in list_checkpoints(out / "checkpoints")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)  # polling another process's folder: there is nothing to wait on


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_goes_on_to_the_same_weights(digits, whole, tmp_path, seed):
    out = tmp_path / "run"
    process = start(digits, out)
    wait_for_step(process, out, random.Random(seed).randint(1, 20))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert not (out / "bundle").exists()
    resumed = run_megavit("train", "--resume", out, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (out / WEIGHTS).read_bytes() == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_says_how_to_go_on(digits, whole, tmp_path, number):
    out = tmp_path / "run"
    process = start(digits, out)
    wait_for_step(process, out, 2)
    os.kill(process.pid, number)
    _, told = process.communicate()
    assert process.returncode == 128 + number
    assert b"all is saved" in told and b"--resume" in told and b"Traceback" not in told
    assert run_megavit("train", "--resume", out, cwd=tmp_path).returncode == 0
    assert (out / WEIGHTS).read_bytes() == whole


def test_resuming_a_finished_run_writes_the_same_bundle_again(digits, whole, tmp_path):
    out = tmp_path / "run"
    assert run_megavit("train", digits, "--out", out, *FLAGS, cwd=tmp_path).returncode == 0
    assert run_megavit("train", "--resume", out, cwd=tmp_path).returncode == 0
    assert (out / WEIGHTS).read_bytes() == whole


def test_changed_images_are_not_gone_on_with(digits, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(digits, data)
    out = tmp_path / "run"
    process = start(data, out)
    wait_for_step(process, out, 1)
    process.kill()
    process.communicate()
    (data / "digit 0" / "000.png").unlink()
    refused = run_megavit("train", "--resume", out, cwd=tmp_path)
    assert refused.returncode == 2 and "is not what it was when the run began" in refused.stderr


def test_a_run_by_the_clock_that_is_killed_ends_on_its_time_when_it_goes_on(tmp_path):
    minutes, out = 0.3, tmp_path / "run"
    arguments = ["--out", str(out), "--minutes", str(minutes), "--device", "cpu", "--checkpoint-seconds", "0.5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "megavit", "train", "demo:digits", *arguments], stderr=subprocess.PIPE
    )
    wait_for_step(process, out, 1)
    process.kill()
    process.communicate()
    used = json.loads((list_checkpoints(out / "checkpoints")[0] / "manifest.json").read_text())
    began = time.monotonic()
    resumed = run_megavit("train", "--resume", out, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    history = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    last = history[-1]
    assert last["seconds"] < used["seconds"] + time.monotonic() - began
    # A busy machine may have come to the end before the kill did.
    assert used["progress"] == 1 or used["seconds"] < last["seconds"]
    # On a machine so busy that starting again takes all the time, there are only the steps that lower the rate.
    few = last["step"] - used["step"] <= LAST_STEPS
    assert last["seconds"] < minutes * 60 or few
    assert last["learning_rate"] < 0.1 * 3e-3 or few


def test_a_run_that_another_process_is_at_is_left_to_it(digits, tmp_path):
    out = tmp_path / "run"
    process = start(digits, out)
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
