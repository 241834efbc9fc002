import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from megavit.config.recipe import ModelRecipe, Recipe, RunRecipe
from megavit.data.dataset import LabeledImages, Sample, Skipped, read_samples
from megavit.errors import BundleError, OutputError
from megavit.training.clock import RunLength
from megavit.training.run_dir import (
    PLAN,
    RECIPE,
    SAMPLES,
    SKIPPED,
    Plan,
    check_run_dir,
    is_restart,
    lock_run_dir,
    read_plan,
    write_plan,
    write_restart_marker,
)

PLANNED = Plan(
    source="/data/猫",
    fingerprint="0" * 32,
    recipe=Recipe(model=ModelRecipe(preset="pico", image_size=8), run=RunRecipe(minutes=0.1, batch_size=3)),
    length=RunLength(steps=7, time=None),
    threads=2,
)


def images() -> LabeledImages:
    samples = (Sample('a "b",\n猫.png', 0, "train", 8, 8, 1, "0" * 16),)
    return LabeledImages("data", Path("data"), ("x",), samples, (Skipped("caf\udce9.txt", "no, not\nthis"),), "all")


def test_a_plan_is_read_as_it_was_written(tmp_path):
    write_plan(tmp_path, PLANNED, images())
    assert read_plan(tmp_path) == PLANNED
    assert {path.name for path in tmp_path.iterdir()} == {PLAN, RECIPE, SAMPLES, SKIPPED}
    assert [row.name for row in read_samples(tmp_path / SAMPLES)] == ['a "b",\n猫.png']
    assert (tmp_path / SKIPPED).read_bytes() == b'"name","reason"\n"caf\xe9.txt","no, not\nthis"\n'


@pytest.mark.parametrize("where", ["empty", "missing", "file", "file/below"])
def test_where_there_is_no_plan_the_error_says_how_to_begin(tmp_path, where):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"no run to resume.*start one with megavit train"):
        read_plan(tmp_path / where)


@pytest.mark.parametrize(
    "change",
    [
        {"length": {"steps": 0, "time": None}},
        {"threads": 0},
        {"threads": 10**9},
        {"length": {"steps": "7", "time": None}},
        {"more": 1},
        {"recipe": {"run": 1}},
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path, change):
    write_plan(tmp_path, PLANNED, images())
    table = json.loads((tmp_path / PLAN).read_text())
    (tmp_path / PLAN).write_text(json.dumps(table | change))
    with pytest.raises(BundleError, match=next(iter(change))):
        read_plan(tmp_path)


def test_a_plan_cut_short_is_refused(tmp_path):
    write_plan(tmp_path, PLANNED, images())
    (tmp_path / PLAN).write_bytes((tmp_path / PLAN).read_bytes()[:100])
    with pytest.raises(BundleError, match="not valid JSON"):
        read_plan(tmp_path)


def test_a_run_needs_a_folder_of_its_own_outside_the_data(tmp_path, monkeypatch):
    data, full, run = tmp_path / "data", tmp_path / "full", tmp_path / "a run"
    for folder in (data / "cat", full, run):
        folder.mkdir(parents=True)
    (full / "mine.txt").touch()
    (run / PLAN).touch()
    for out in (data, full):
        with pytest.raises(OutputError, match="not empty"):
            check_run_dir(out, str(data))
    with pytest.raises(OutputError, match=r"--resume '.*a run'"):
        check_run_dir(run, str(data))
    monkeypatch.chdir(data)
    for out in (data / "cat" / "run", Path("runs/data"), tmp_path / "x" / ".." / "data" / "run"):
        with pytest.raises(OutputError, match="inside the data folder"):
            check_run_dir(out, ".")


def test_a_new_folder_and_one_with_hidden_files_only_will_do(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    for out in (tmp_path / "out", tmp_path / "new"):
        check_run_dir(out, "demo:digits")
        check_run_dir(out, str(tmp_path / "data"))


def test_only_the_job_that_began_a_run_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "ours")
    assert not is_restart(tmp_path)
    write_restart_marker(tmp_path)
    assert is_restart(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    assert not is_restart(tmp_path)


def test_a_job_without_a_name_is_known_by_its_agent(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    write_restart_marker(tmp_path)
    assert is_restart(tmp_path)
    monkeypatch.setattr("os.getppid", os.getpid)
    assert not is_restart(tmp_path)


def test_what_no_agent_began_is_not_gone_on_with_unasked(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    write_restart_marker(tmp_path)
    assert not list(tmp_path.iterdir()) and not is_restart(tmp_path)


HOLD = """
import os, sys
from pathlib import Path
from megavit.training.run_dir import lock_run_dir
with lock_run_dir(Path(sys.argv[1])):
    child = os.fork() if sys.argv[2] == "fork" else 1
    if child == 0:
        sys.stdin.read()  # a worker that outlives its parent
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, request):
    """Another process that holds the lock."""
    fork = getattr(request, "param", "")
    command = [sys.executable, "-c", HOLD, str(tmp_path), fork]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_with_advice(tmp_path, holder):
    with pytest.raises(OutputError, match=r"another process is training.*wait until it ends"):
        with lock_run_dir(tmp_path):
            pass


@pytest.mark.parametrize("holder", ["", "fork"], indirect=True)
def test_a_killed_process_holds_nothing_even_if_its_workers_live_on(tmp_path, holder):
    holder.kill()
    holder.wait()
    with lock_run_dir(tmp_path):
        pass


def test_the_lock_leaves_nothing_behind_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with lock_run_dir(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path):
    with pytest.raises(OutputError, match="could not be written"):
        with lock_run_dir(tmp_path / "nothing"):
            pass
