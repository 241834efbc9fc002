"""Flips bits in checkpoints, and cuts them short, at random; counts what is refused and what loads as if whole.

    python benchmarks/distributed/checkpoint_damage.py --damages 1000

Half of them in the checkpoint of a run of one process, half in that of two which divided the model (FSDP2).
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from megavit.data.load import load_data
from megavit.distributed.context import ParallelContext
from megavit.errors import BundleError
from megavit.training.checkpoint.checkpoint import list_checkpoints, load_checkpoint
from megavit.training.context import RunContext
from megavit.training.loop.build import build_training
from megavit.training.progress import NullReporter
from megavit.training.run_dir import read_plan
from megavit.training.state import TrainState

KINDS = {"one process": [], "two processes, FSDP2": ["--nproc", "2", "--fsdp", "2"]}


def train_run(folder: Path, flags: list[str]) -> Path:
    """A short run, trained as a user does."""
    command = [sys.executable, "-m", "megavit", "train", "demo:digits", "--out", str(folder), "--epochs", "2"]
    subprocess.run([*command, "--recipe", "demo", "--device", "cpu", *flags], check=True, stdout=subprocess.DEVNULL)
    return folder


def make_state(run: Path) -> TrainState:
    """A fresh state of the run, for one process."""
    plan = read_plan(run)
    dataset = load_data(plan.source, plan.recipe.data)
    ctx = RunContext(run, dataset, torch.device("cpu"), ParallelContext(), NullReporter())
    return build_training(ctx, plan.recipe)[0]


def damage_file(path: Path, rng: random.Random) -> str:
    """Damage a file in one of two ways; how."""
    data = bytearray(path.read_bytes())
    offset = rng.randrange(len(data))
    if rng.random() < 0.5:
        data[offset] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        return "bit flipped"
    path.write_bytes(data[:offset])
    return "cut short"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    arguments = parser.parse_args()
    rng, found, silent = random.Random(arguments.seed), {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for kind, flags in KINDS.items():
            run = train_run(Path(folder) / str(len(found)), flags)
            newest = list_checkpoints(run / "checkpoints")[0]
            damaged_folder, state = Path(folder) / f"{len(found)}-damaged", make_state(run)
            shutil.copytree(newest, damaged_folder / newest.name)
            if load_checkpoint(damaged_folder, state):
                raise SystemExit(f"the undamaged checkpoint of {kind} was refused")
            files = sorted(path.name for path in newest.iterdir())
            count: Counter[str] = Counter()
            for number in range(arguments.damages // len(KINDS)):
                path = damaged_folder / newest.name / files[number % len(files)]
                damage = f"{path.name}, {damage_file(path, rng)}"
                try:
                    load_checkpoint(damaged_folder, state)
                except BundleError:
                    count[f"{damage}: refused"] += 1
                else:
                    count[f"{damage}: silent"] += 1
                    silent += 1
                shutil.copyfile(newest / path.name, path)
            found[kind] = dict(sorted(count.items()))
            sys.stdout.write(json.dumps({kind: found[kind]}) + "\n")
    result = {"damages": sum(sum(kind.values()) for kind in found.values()), "silent": silent, "of": found}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(silent > 0)


if __name__ == "__main__":
    main()
