"""What can go wrong while two processes train: each fault happens to a real run, which then goes on as a user would."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.distributed.noted_run import WITHOUT_RANDOMNESS, NotedRun, free_port
from tests.helpers.distributed.noted_training import NAN_RANK, SLOW_RANK
from tests.helpers.processes import kill_session, wait_until_ended
from tests.helpers.shared_folder import BuildOnce
from tests.helpers.training_process import read_manifest

pytestmark = pytest.mark.drill


def build_undisturbed(build_once: BuildOnce, name: str, more: str) -> NotedRun:
    def fill(folder: Path) -> None:
        run = NotedRun(folder / "run", more=more)
        assert run.start().wait() == 0, run.output()

    return NotedRun(build_once(name, fill) / "run", more=more)


@pytest.fixture(scope="session")
def undisturbed(build_once: BuildOnce) -> NotedRun:
    return build_undisturbed(build_once, "undisturbed with notes", "")


@pytest.fixture(scope="session")
def undisturbed_without_randomness(build_once: BuildOnce) -> NotedRun:
    return build_undisturbed(build_once, "undisturbed without randomness", WITHOUT_RANDOMNESS)


@pytest.fixture
def run(tmp_path: Path) -> NotedRun:
    return NotedRun(tmp_path / "run")


def test_after_a_killed_process_all_are_started_again(run, undisturbed):
    process = run.start()
    workers = run.wait_for_step()
    os.kill(workers[1], signal.SIGKILL)
    wait_until_ended(workers.values())
    assert process.wait() == 0
    run.assert_equals(undisturbed)


def test_the_processes_of_a_killed_command_end_with_it(run, undisturbed):
    process = run.start()
    workers = run.wait_for_step()
    process.kill()
    wait_until_ended(workers.values())
    assert process.wait() == -signal.SIGKILL
    assert run.resume() == 0
    run.assert_equals(undisturbed)


def test_sigterm_saves_a_checkpoint_and_ends(run, undisturbed):
    process = run.start()
    run.wait_for_step()
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert run.resume() == 0
    run.assert_equals(undisturbed)


def test_a_torn_checkpoint_is_left_out_and_the_one_before_is_taken(run, undisturbed):
    process = run.start()
    run.wait_for(lambda _: len(list((run.out / "checkpoints").glob("step-*"))) == 2)
    workers = run.wait_for_step()
    process.kill()
    wait_until_ended(workers.values())
    process.wait()
    part = max((run.out / "checkpoints").glob("step-*")) / "__1_0.distcp"
    os.truncate(part, part.stat().st_size // 2)
    assert run.resume() == 0
    assert "skipped a damaged checkpoint" in run.output()
    run.assert_equals(undisturbed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_said_and_the_run_resumes_once_there_is_space(tmp_path, undisturbed):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        run = NotedRun(disk / "run")
        process = run.start()
        run.wait_for_step()
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        assert process.wait() == 2
        (disk / "filler").unlink()
        assert run.resume() == 0
        assert "the disk is full" in run.output()
        run.assert_equals(undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_after_a_process_that_hangs_all_are_started_again(run, undisturbed):
    process = run.start()
    workers = run.wait_for_step()
    os.kill(workers[1], signal.SIGSTOP)
    wait_until_ended([workers[0]])  # after timeout_seconds
    wait_until_ended([workers[1]])  # the agent kills it
    assert process.wait() == 0
    assert run.output().count("lost another process, which has ended or hangs") == 1
    run.assert_equals(undisturbed)


def test_a_slow_process_changes_nothing(run, undisturbed):
    run.environment = {SLOW_RANK: "1"}
    assert run.start().wait() == 0
    run.assert_equals(undisturbed)


def test_a_step_whose_loss_is_no_number_in_one_process_is_skipped_by_all(run):
    run.environment = {NAN_RANK: "1"}
    assert run.start().wait() == 0
    assert {note.rank: note.skipped for note in run.notes()} == {0: 1, 1: 1}
    run.assert_no_process_is_left()


def test_a_second_command_in_the_same_folder_is_refused(run, undisturbed):
    process = run.start()
    workers = run.wait_for_step()
    for worker in workers.values():  # so that they are there for as long as the second run looks
        os.kill(worker, signal.SIGSTOP)
    assert run.resume() == 2
    for worker in workers.values():
        os.kill(worker, signal.SIGCONT)
    assert process.wait() == 0
    assert run.output().count("another process is training") == 1
    run.assert_equals(undisturbed)


def test_a_machine_that_is_killed_is_waited_for(run, undisturbed):
    port = free_port()
    first = run.start_node("2", port)
    time.sleep(1)  # the first one to come keeps the meeting point
    second = run.start_node("2", port)
    workers = run.wait_for_step()
    kill_session(second)
    wait_until_ended(workers.values())
    second = run.start_node("2", port)
    assert [first.wait(), second.wait()] == [0, 0]
    run.assert_equals(undisturbed)


def test_two_machines_become_one_and_then_two(tmp_path, undisturbed_without_randomness):
    run, port = NotedRun(tmp_path / "run", more=WITHOUT_RANDOMNESS), free_port()
    first = run.start_node("1:2", port)
    time.sleep(1)
    second = run.start_node("1:2", port)
    workers = run.wait_for_step()
    kill_session(second)
    wait_until_ended(workers.values())
    last, old = max(note.step for note in run.notes()), set(workers.values())
    run.wait_for(lambda notes: any(note.pid not in old and note.step > last + 10 for note in notes))
    second = run.start_node("1:2", port)
    assert [first.wait(), second.wait()] == [0, 0]
    assert {note.rank for note in run.notes()[-10:]} == {0, 1}
    expected = undisturbed_without_randomness.losses()
    assert run.losses().keys() == expected.keys()
    assert run.losses() == pytest.approx(expected, abs=1e-5)
    run.assert_no_process_is_left()


def test_on_a_budget_of_time_lost_time_is_not_given_back(tmp_path):
    run = NotedRun(tmp_path / "run", length="minutes = 0.8")
    process = run.start()
    workers = run.wait_for_step(20)
    os.kill(workers[0], signal.SIGKILL)
    wait_until_ended(workers.values())
    assert process.wait() == 0
    steps = [{note.step for note in run.notes() if note.rank == rank} for rank in (0, 1)]
    assert steps[0] == steps[1]
    newest = max((run.out / "checkpoints").glob("step-*"))
    assert json.loads((newest / "manifest.json").read_text())["seconds"] < 48
    run.assert_no_process_is_left()


def test_a_stopped_run_on_a_budget_of_time_has_the_rest_of_it_when_resumed(tmp_path):
    run = NotedRun(tmp_path / "run", length="minutes = 0.7")
    process = run.start()
    run.wait_for_step(5)
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    left = read_manifest(run.out)
    assert 0 < left["progress"] < 1 and 0 < left["seconds"] < 42
    assert run.resume() == 0
    ended = read_manifest(run.out)
    assert ended["progress"] == 1 and ended["step"] > left["step"] and ended["seconds"] > left["seconds"]
    assert ended["history"][-1]["learning_rate"] < 0.1 * max(one["learning_rate"] for one in ended["history"])
