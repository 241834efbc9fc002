"""Several processes that train together, and what happens when some of them do not: all is real."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from megavit.train.checkpoint.checkpoint import list_checkpoints
from tests.helpers.command_line import run_megavit, run_megavit_json, run_megavit_process

COMMON = ["--batch-size", "16", "--precision", "float32", "--device", "cpu"]
FLAGS = ["--epochs", "6", *COMMON]
WEIGHTS = Path("bundle") / "model.safetensors"


@pytest.fixture(scope="module")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        done = run_megavit("train", digits, "--out", out, *FLAGS, "--nproc", "2", cwd=out.parent)
        left = [path.name for path in Path(os.environ["TMPDIR"]).iterdir() if not path.name.startswith("torchinductor")]
    assert done.returncode == 0, done.stderr
    assert left == []  # of the processes, nor of those that watch over them
    return out


def start(digits: Path, out: Path, *flags: str) -> subprocess.Popen[bytes]:
    """A run of two processes that writes a checkpoint after every step."""
    flags = (*(flags or FLAGS), "--nproc", "2", "--checkpoint-seconds", "0.0001")
    command = [sys.executable, "-m", "megavit", "train", str(digits), "--out", str(out), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_step(process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while not any(int(path.name.removeprefix("step-")) >= step for path in list_checkpoints(out / "checkpoints")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)  # polling another process's folder: there is nothing to wait on


def manifest_of(out: Path) -> dict[str, Any]:
    return json.loads((list_checkpoints(out / "checkpoints")[0] / "manifest.json").read_text())


def workers_of(out: Path) -> list[int]:
    """The processes that train in `out`, without the one that started them."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            said = (folder / "cmdline").read_bytes().split(b"\0")
            alone = b"RANK=" not in (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(out).encode() in said and not alone:
            found.append(int(folder.name))
    return found


def gone(out: Path) -> bool:
    deadline = time.monotonic() + 30
    while workers_of(out):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)  # the kernel ends them when their parent is gone
    return True


def test_two_processes_make_a_bundle_like_one(digits, whole, tmp_path):
    found = run_megavit_json("evaluate", whole / "bundle", digits, cwd=tmp_path)
    assert found["metrics"]["accuracy"]["value"] > 0.8
    checkpoint = list_checkpoints(whole / "checkpoints")[0]
    assert {path.name for path in checkpoint.iterdir()} >= {"__0_0.distcp", "__1_0.distcp", "manifest.json"}


def test_killed_processes_are_started_again_and_a_killed_agent_leaves_none_behind(digits, whole, tmp_path):
    out = tmp_path / "run"
    process = start(digits, out)
    wait_for_step(process, out, 3)
    before = workers_of(out)
    os.kill(max(before), signal.SIGKILL)
    wait_for_step(process, out, 12)
    assert not set(before) & set(workers_of(out))
    process.kill()
    process.communicate()
    assert gone(out) and not (out / "bundle").exists()
    resumed = run_megavit("train", "--resume", out, "--nproc", "2", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_a_run_of_two_that_is_asked_to_stop_says_how_to_go_on_and_one_can(digits, tmp_path):
    out = tmp_path / "run"
    process = start(digits, out)
    wait_for_step(process, out, 2)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert told.count(b"all is saved") == 1 and b"--resume" in told and b"Traceback" not in told, told
    assert gone(out)
    assert run_megavit("train", "--resume", out, cwd=tmp_path).returncode == 0
    assert (out / WEIGHTS).exists()


def test_a_process_that_hangs_is_waited_for_and_then_all_are_started_again(digits, whole, tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text("[parallel]\ntimeout_seconds = 10\n")
    process = start(digits, out, *FLAGS, "--recipe", str(recipe))
    wait_for_step(process, out, 3)
    before = workers_of(out)
    stopped, other = max(before), min(before)
    os.kill(stopped, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while other in workers_of(out):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(stopped, signal.SIGKILL)  # the agent would do so, half a minute later
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0 and told.count(b"has lost another one, which has ended or hangs") == 1, told
    assert gone(out) and (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_by_the_clock_a_run_of_two_that_was_stopped_has_the_rest_of_its_time_in_one(digits, tmp_path):
    out = tmp_path / "run"
    process = start(digits, out, "--minutes", "0.7", "--model", "pico", *COMMON)
    wait_for_step(process, out, 5)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, told
    left = manifest_of(out)
    assert 0 < left["progress"] < 1 and 0 < left["seconds"] < 42
    assert run_megavit("train", "--resume", out, cwd=tmp_path).returncode == 0
    ended = manifest_of(out)
    assert ended["progress"] == 1 and ended["step"] > left["step"] and ended["seconds"] > left["seconds"]
    assert ended["history"][-1]["learning_rate"] < 0.1 * max(one["learning_rate"] for one in ended["history"])


def test_a_folder_that_another_run_is_at_is_left_to_it(digits, tmp_path):
    out = tmp_path / "run"
    process = start(digits, out)
    wait_for_step(process, out, 1)
    stopped = workers_of(out)
    for worker in stopped:  # so that they are there for as long as the second run looks
        os.kill(worker, signal.SIGSTOP)
    try:
        refused = run_megavit("train", "--resume", out, "--nproc", "2", cwd=tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert refused.returncode == 2 and refused.stderr.count("another process is training") == 1, refused.stderr
    assert gone(out)


def test_three_processes_have_an_automatic_batch_that_divides(digits, tmp_path):
    flags = ["--epochs", "1", "--nproc", "3", "--model", "pico", "--precision", "float32", "--device", "cpu"]
    done = run_megavit_process("train", digits, "--out", tmp_path / "run", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["recipe"]["run"]["batch_size"] % 3 == 0


def test_what_several_processes_cannot_do_is_said_once(digits, tmp_path):
    flags = ["--epochs", "1", "--nproc", "2", "--batch-size", "15"]
    done = run_megavit_process("train", digits, "--out", tmp_path / "run", *flags, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("cannot be divided among 2 processes") == 1, done.stderr


def test_processes_without_a_common_folder_are_refused(digits, tmp_path):
    command = [sys.executable, "-m", "megavit", "train", str(digits), "--epochs", "1"]
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--out" in done.stderr
