"""Shards as a person uses them: written, trained on, checked, and answered for by processes that die."""

import contextlib
import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from megavit.cli import app
from megavit.data.file_names import HIDDEN
from tests.helpers.command_line import run_megavit, run_megavit_json, run_megavit_process
from tests.helpers.processes import wait_until_ended
from tests.helpers.waiting import wait_until

IMAGES = 90


@pytest.fixture(scope="module")
def shards(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    reported = run_megavit_json("shard", digits, "--out", "shards", "--shard-size", "70kB", cwd=folder)
    assert reported["images"] == IMAGES and reported["shards"] == 3
    assert reported["skipped"] == {HIDDEN: 1, "not an image (.txt)": 1, "the file is empty": 1}
    return folder / "shards"


def start(run: Path, shards: Path, cwd: Path, output: str, rank: int, world: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "megavit", "predict", str(run), str(shards), "--out", output]
    env = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(world)}
    return subprocess.Popen(
        [*command, "--batch-size", "2"], cwd=cwd, env=env, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


def wait(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, reported = process.communicate()
        assert process.returncode == 0, reported


def answers(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="") as file:
        return [(row["path"], row["label"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def expected(run: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """The answers for the shards, from one process."""
    folder = tmp_path_factory.mktemp("expected")
    done = run_megavit("predict", run, shards, "--out", "one.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"{IMAGES} predictions of 3 shards in one.csv" in done.stderr
    found = answers(folder / "one.csv")
    assert len({name for name, _ in found}) == len(found) == IMAGES
    assert [path.name for path in folder.iterdir()] == ["one.csv"]
    return found


def test_training_on_shards_with_the_written_recipe_is_training_on_their_folder(run, digits, shards, tmp_path, capsys):
    done = run_megavit("train", shards, "--recipe", run / "recipe.toml", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    weights = [(folder / "bundle" / "model.safetensors").read_bytes() for folder in (run, tmp_path / "run")]
    assert weights[0] == weights[1]
    reported = []
    for data in (shards, digits):
        assert app.run(["evaluate", str(run), str(data), "--json"]) == 0
        reported.append(json.loads(capsys.readouterr().out))
        reported[-1]["data"].pop("source")
    assert reported[0] == reported[1]


def test_check_finds_what_is_damaged(shards, tmp_path):
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = json.loads((shards / "megavit-shards.json").read_text())["shards"][0]
    with (tmp_path / first["name"]).open("rb+") as file:
        file.seek(first["offsets"][4] + 50)
        file.write(b"\0\0")
    done = run_megavit("check", tmp_path, "--skip-labels", "--json", cwd=tmp_path)
    assert done.returncode == 1
    reported = [one for one in json.loads(done.stdout)["findings"] if one["kind"] == "unreadable"]
    assert {one["images"][0]: one["message"] for one in reported} == {
        first["names"][4]: "its bytes do not match their digest",
        "digit 1/empty.png": "the file is empty",
    }


def test_answers_for_the_shards_are_those_for_their_files(run, digits, shards, expected, tmp_path):
    assert (
        run_megavit("predict", run, digits, "--out", "files.csv", cwd=tmp_path).returncode == 2
    )  # a text and an empty file
    files = {str(Path(name).relative_to(digits)): label for name, label in answers(tmp_path / "files.csv") if label}
    assert dict(expected) == files
    listed = run_megavit("predict", run, shards, "--json", cwd=tmp_path).stdout.splitlines()
    assert [json.loads(line)["path"] for line in listed] == [name for name, _ in expected]


@pytest.mark.parametrize("output", [pytest.param("out.csv", marks=pytest.mark.drill), "out"])
def test_a_process_that_is_killed_costs_nothing_but_its_part(output, run, shards, expected, tmp_path):
    pair = [start(run, shards, tmp_path, output, rank, 2) for rank in range(2)]
    folder = tmp_path / (f"{output}.parts" if "." in output else output)
    wait_until(lambda: any(folder.glob(".data-*")))  # some part is being written
    for process in pair:
        process.kill()
        process.communicate()
    assert not (tmp_path / "out.csv").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("data-*")}
    if output == "out":
        done = run_megavit("predict", run, shards, "--out", output, "--batch-size", "2", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        parts = sorted(folder.glob("data-*"))
        assert len(parts) == 3 and {part.suffix for part in parts} == {".jsonl"}
        assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in parts}.items()
        rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
        assert [(row["path"], row["label"]) for row in rows] == expected
        assert list(folder.glob(".data-*")) == []
    else:
        wait(*(start(run, shards, tmp_path, output, rank, 3) for rank in range(3)))
        assert answers(tmp_path / output) == expected
        assert [path.name for path in tmp_path.iterdir()] == [output]


def find_writers(folder: Path) -> list[int]:
    """Return the processes that have an unfinished part of `folder` open."""
    writers = []
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            path = handle.readlink()
            if path.parent == folder and path.name.startswith(".data-"):
                writers.append(int(handle.parts[2]))
    return writers


def test_procs_is_the_short_form_and_ends_as_one_process_does(run, shards, expected, tmp_path):
    """Also with an image that cannot be read: its line, and exit code 2."""
    for path in shards.iterdir():
        (tmp_path / "s" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "s" / path.name).write_bytes(path.read_bytes())
    index = json.loads((shards / "megavit-shards.json").read_text())
    with (tmp_path / "s" / index["shards"][1]["name"]).open("rb+") as file:
        file.seek(index["shards"][1]["offsets"][4] + 50)
        file.write(b"\0\0")
    done = run_megavit_process("predict", run, "s", "--out", "out.csv", "--nproc", "2", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"1 of {IMAGES} images could not be read" in done.stderr
    damaged = index["shards"][1]["names"][4]
    assert answers(tmp_path / "out.csv") == [(name, "" if name == damaged else label) for name, label in expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "s"]


def test_a_file_that_is_there_is_refused_however_often_torchrun_starts_again(
    run, shards, tmp_path, monkeypatch, capsys
):
    """Unless these very processes made it, before they were started again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.csv").write_text("precious")
    monkeypatch.setattr("megavit.runtime.process_group.die_with_parent", lambda: None)  # it would be this process
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for job, attempts in (("first", (0, 1, 2)), ("second", (1,))):
        for attempt in attempts:
            folder = tmp_path / job / f"attempt_{attempt}" / "0"
            folder.mkdir(parents=True)
            monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(folder / "error.json"))
            monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(attempt))
            code = app.run(["predict", str(run), str(shards), "--out", "out.csv"])
            assert code == (2 if job == "first" else 0)
            assert ("out.csv already exists" in capsys.readouterr().err) == (job == "first")
    assert (tmp_path / "out.csv").read_text() == "precious"


@pytest.mark.drill
def test_an_agent_that_is_killed_takes_its_processes_with_it(run, shards, tmp_path):
    command = [sys.executable, "-m", "megavit", "predict", str(run), str(shards), "--out", "out", "--nproc", "2"]
    agent = subprocess.Popen([*command, "--batch-size", "1"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_until(lambda: bool(find_writers(tmp_path / "out")), possible=lambda: agent.poll() is None)
    writers = find_writers(tmp_path / "out")
    agent.kill()
    agent.wait()
    wait_until_ended(writers)


def test_embeddings_of_shards_are_complete_too(run, shards, expected, tmp_path, monkeypatch):
    """Of two processes that both die with their agent, of which the first comes last and merges the parts."""
    mortal = []
    monkeypatch.setattr("megavit.runtime.process_group.die_with_parent", lambda: mortal.append(os.environ["RANK"]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        done = run_megavit("embed", run, shards, "--out", "out.npz", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out.npz").exists() == (rank == "0")
    assert mortal == ["1", "0"]
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["path"].tolist() == [name for name, _ in expected]
        assert Counter(arrays["embedding"].shape) == Counter((IMAGES, arrays["embedding"].shape[1]))


def test_mistakes_are_told_in_a_sentence(run, shards, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").touch()
    for arguments, reported in (
        (("predict", run, shards, "--out", "there.csv"), "there.csv already exists"),
        (("predict", run, shards, "--out", "out.txt"), "predictions are written as .jsonl or .csv, or into a folder"),
        (("predict", run, digits, "--out", "x.csv", "--nproc", "2"), "several processes can only be used for shards"),
        (
            ("predict", run, shards, "--nproc", "2"),
            "several processes cannot print their predictions: pass --out FOLDER or FILE",
        ),
        (
            ("predict", run, shards, "--out", "x.csv", "--nproc", "0"),
            "nproc must be an integer, at least 1 and at most 1,024",
        ),
        (("shard", "demo:digits", "--out", "x"), "demo:digits has no files"),
        (
            ("shard", digits, "--out", "x", "--shard-size", "many"),
            "--shard-size must be a number of bytes such as 256MB",
        ),
        (("shard", digits, "--out", digits / "x"), "is inside the data folder"),
        (("shard", digits, "--out", shards), "already exists and is not empty"),
        (("train", tmp_path / "no.tar"), "there are no images in the 1 shards"),
    ):
        assert app.run([str(argument) for argument in arguments]) == 2
        assert reported in capsys.readouterr().err
