"""Processes that predict for shards are killed at random moments; each image still comes once, as from one process."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.command_line import run_megavit
from tests.helpers.digits import make_digits_folder
from tests.helpers.shared_folder import BuildOnce
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.drill

BOUND = 1e-5
IMAGES = 1_797
JOBS = {"CSV": ("predict", "out.csv"), "folder": ("predict", "out"), "embeddings": ("embed", "out.npz")}
STARTERS = ("torchrun", "--nproc")
VICTIMS = ("worker", "both", "agent", "all")


@dataclass
class Output:
    """What was written: the names in order, and the labels ("" for embeddings) and numbers by name."""

    names: list[str]
    labels: dict[str, str]
    numbers: dict[str, list[float]]


def read_output(path: Path) -> Output:
    output = Output([], {}, {})
    files = sorted(path.glob("[!.]*.*")) if path.is_dir() else [path]
    for file in files:
        if file.name.startswith("megavit-"):
            continue
        if file.suffix == ".npz":
            with np.load(file) as arrays:
                names, vectors = arrays["path"].tolist(), arrays["embedding"].tolist()
            rows = [(name, "", vector) for name, vector in zip(names, vectors, strict=True)]
        else:
            with file.open(newline="") as lines:
                table = [json.loads(line) for line in lines] if file.suffix == ".jsonl" else list(csv.DictReader(lines))
            rows = [(row["path"], row["label"], [float(row["probability"])]) for row in table]
        for name, label, numbers in rows:
            output.names.append(name)
            output.labels[name], output.numbers[name] = label, numbers
    return output


@pytest.fixture(scope="session")
def place(build_once: BuildOnce) -> Path:
    """A folder with a run, about thirty shards of digits, and what one process predicts for them."""

    def fill(folder: Path) -> None:
        make_digits_folder(folder / "digits", range(10), slice(None))
        for command in (
            ["shard", "digits", "--out", "shards", "--shard-size", "140kB"],
            ["train", "digits", "--out", "run", "--epochs", "1", "--model", "nano"],
            ["predict", "run", "shards", "--out", "one.csv"],
            ["embed", "run", "shards", "--out", "one.npz"],
        ):
            done = run_megavit(*command, cwd=folder)
            assert done.returncode == 0, done.stderr

    return build_once("shard kills", fill)


def find_shard_workers(name: str, cwd: Path) -> list[int]:
    """Return the processes that write to `name` in `cwd`, without the agent that started them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            is_worker = b"\0LOCAL_RANK=" in b"\0" + (path / "environ").read_bytes()
            if is_worker and (path / "cwd").readlink() == cwd and name.encode() in words:
                found.append(int(path.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("starter", STARTERS)
@pytest.mark.parametrize(("verb", "name"), JOBS.values(), ids=JOBS)
def test_after_a_kill_every_image_comes_once_with_the_same_prediction(place, tmp_path, verb, name, starter, victim):
    for source in ("run", "shards"):
        (tmp_path / source).symlink_to(place / source)
    draw = random.Random(f"{verb} {name} {starter} {victim}")
    command = [sys.executable, "-m", "megavit", verb, "run", "shards", "--out", name, "--batch-size", "4"]
    if starter == "torchrun":
        agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2"]
        command[1:1] = agent
    else:
        command += ["--nproc", "2"]
    parts = tmp_path / (name if name == "out" else f"{name}.parts")
    enough = draw.randint(0, len(list((place / "shards").glob("*.tar"))) // 2)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(
        lambda: len(list(parts.glob("data-*"))) >= enough and len(find_shard_workers(name, tmp_path)) == 2,
        possible=lambda: process.poll() is None,
    )
    time.sleep(draw.random() * 0.1)
    workers = find_shard_workers(name, tmp_path)
    draw.shuffle(workers)
    chosen = {"worker": workers[:1], "both": workers, "agent": [], "all": workers}[victim]
    for number in [*chosen, *([process.pid] if victim in ("agent", "all") else [])]:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    if process.wait() != 0 and (name == "out" or not (tmp_path / name).exists() or parts.is_dir()):
        wait_until(lambda: not find_shard_workers(name, tmp_path))
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    output, expected = read_output(tmp_path / name), read_output(place / f"one{'.npz' if verb == 'embed' else '.csv'}")
    assert output.names == expected.names and len(set(output.names)) == IMAGES
    assert output.labels == expected.labels
    differences = [np.abs(np.subtract(output.numbers[one], expected.numbers[one])).max() for one in output.names]
    assert max(differences) <= BOUND
    assert not list(tmp_path.glob("*.parts"))
