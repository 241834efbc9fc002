"""Kills processes that answer for shards with SIGKILL, at random moments; compares what comes of it with one process.

    python -m benchmarks.shard_kills [--kills 20] [--json FILE]

scikit-learn's digits lie in about 30 shards. Two processes share them, started by torchrun or by --nproc, for predict
and embed, into a file and into a folder. At a random moment one of them is killed, or both, or the agent that started
them, or all three; an agent that is left starts them again, and where none is, the same command is given again. Then
every image must have come once, with the answer of one process by itself: the same label, numbers within 1e-5.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from megavit.bench.run import about

SECONDS, BOUND = 300.0, 1e-5
VICTIMS = ("worker", "both", "agent", "all")
Rows = dict[str, tuple[str, list[float]]]
"""Of each image its label, "" for embeddings, and its numbers."""


@dataclass
class Result:
    """What came of the kills."""

    kills: int = 0
    started_again_by_hand: int = 0
    parts_before_the_kill: int = 0
    lost: int = 0
    doubled: int = 0
    other_labels: int = 0
    largest_difference: float = 0.0
    hung: int = 0
    orphans: int = 0
    left_over: int = 0


def write_digits(folder: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels.reshape(8, 8) * 255 / 16).round().astype("uint8")).save(path)


def megavit(*arguments: str | Path, cwd: Path) -> None:
    command = [sys.executable, "-m", "megavit", *map(str, arguments)]
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


def read(output: Path) -> tuple[list[str], Rows]:
    """The names in order of what was written, and the rows by name."""
    names: list[str] = []
    rows: Rows = {}
    for path in sorted(output.glob("[!.]*.*")) if output.is_dir() else [output]:
        if path.name.startswith("megavit-"):
            continue
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                found = [
                    (str(name), "", vector.tolist())
                    for name, vector in zip(arrays["path"], arrays["embedding"], strict=True)
                ]
        elif path.suffix == ".jsonl":
            table = [json.loads(line) for line in path.read_text().splitlines()]
            found = [(row["path"], row["label"], [row["probability"]]) for row in table]
        else:
            with path.open(newline="") as file:
                found = [(row["path"], row["label"], [float(row["probability"])]) for row in csv.DictReader(file)]
        for name, label, numbers in found:
            names.append(name)
            rows[name] = (label, numbers)
    return names, rows


def workers_of(output: Path, cwd: Path) -> list[int]:
    """The processes that answer into `output`, by their command line; neither an agent nor a process of this script."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            environment = (path / "environ").read_bytes()
            here = (path / "cwd").readlink() == cwd
        except OSError:
            continue
        if here and str(output.name).encode() in words and b"\0LOCAL_RANK=" in b"\0" + environment:
            found.append(int(path.name))
    return found


def kill_and_finish(root: Path, verb: str, name: str, starter: str, victim: str, draw: random.Random) -> Result:
    output, result = root / name, Result(kills=1)
    parts = output if not output.suffix else output.with_name(f"{name}.parts")
    arguments = ["-m", "megavit", verb, "run", "shards", "--out", name, "--batch-size", "4"]
    if starter == "torchrun":
        agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2"]
        command = [sys.executable, *agent, *arguments]
    else:
        command = [sys.executable, *arguments, "--nproc", "2"]
    shards = len(list((root / "shards").glob("*.tar")))
    enough, wait, killed = draw.randint(0, shards), draw.random() * 0.1, False
    until = time.monotonic() + SECONDS
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not killed and process.poll() is None and time.monotonic() < until:
        there = len(list(parts.glob("data-*"))) if parts.is_dir() else -1
        if there >= enough:
            time.sleep(wait)
            workers = workers_of(output, root)
            chosen = workers[:1] if victim == "worker" else workers if victim in ("both", "all") else []
            draw.shuffle(chosen)
            chosen += [process.pid] if victim in ("agent", "all") else []
            for one in chosen:
                try:
                    os.kill(one, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed = True
            result.parts_before_the_kill = there
        time.sleep(0.001)
    result.kills = int(killed)
    try:
        process.wait(max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        result.hung += 1
    if process.returncode != 0:
        time.sleep(0.5)
        result.orphans += len(workers_of(output, root))
        result.started_again_by_hand += 1
        if not output.suffix or not output.exists() or parts.is_dir():
            subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=SECONDS)
    return result


def compare(output: Path, expected: tuple[list[str], Rows], result: Result) -> None:
    names, rows = read(output)
    result.lost += len(set(expected[0]) - set(names))
    result.doubled += len(names) - len(set(names))
    result.left_over += len(list(output.parent.glob(f"{output.name}.parts")))
    for name, (label, numbers) in rows.items():
        right, wanted = expected[1][name]
        result.other_labels += label != right
        difference = float(np.abs(np.subtract(numbers, wanted)).max())
        result.largest_difference = max(result.largest_difference, difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    total, runs = Result(), 0
    with TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        write_digits(root / "digits")
        megavit("shard", "digits", "--out", "shards", "--shard-size", "140kB", cwd=root)
        megavit("train", "digits", "--out", "run", "--epochs", "1", "--model", "nano", cwd=root)
        expected: dict[str, tuple[list[str], Rows]] = {}
        for verb, name in (("predict", "one.csv"), ("embed", "one.npz")):
            megavit(verb, "run", "shards", "--out", name, cwd=root)
            expected[verb] = read(root / name)
            assert len(expected[verb][0]) == 1_797
        while total.kills < arguments.kills:
            verb, name = draw.choice((("predict", "out.csv"), ("predict", "out"), ("embed", "out.npz")))
            name = f"{runs}{name}"
            starter, victim = draw.choice(("torchrun", "--nproc")), VICTIMS[runs % len(VICTIMS)]
            one = kill_and_finish(root, verb, name, starter, victim, draw)
            compare(root / name, expected[verb], one)
            print(f"{starter:9} {verb:8} {name:10} {victim:7} {asdict(one)}", flush=True)  # noqa: T201
            for key, value in asdict(one).items():
                now = getattr(total, key)
                setattr(total, key, max(now, value) if key == "largest_difference" else now + value)
            runs += 1
    told = {"about": about(torch.device("cpu")), "runs": runs, **asdict(total)}
    print(json.dumps(told, indent=1))  # noqa: T201
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    wrong = (total.lost, total.doubled, total.other_labels, total.hung, total.orphans, total.left_over)
    if any(wrong) or total.largest_difference > BOUND:
        sys.exit("the answers are not those of one process")


if __name__ == "__main__":
    main()
