"""Trains on shards with 2 processes, then 1, then 2, each killed in the middle, and compares with one undisturbed.

    python -m benchmarks.data.shard_resume [--turns 3] [--json FILE]

scikit-learn's digits lie in about 60 shards, so that images are drawn from windows of 16; they are read while the run
goes on, none is kept. Each turn kills all processes with SIGKILL at two random steps. Every image must come once in
every epoch, in the order of the undisturbed run; each loss must
be within a millionth of the undisturbed one. Images are not varied, as the random
numbers for that are each process's own.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from sklearn.datasets import load_digits

from megavit.bench.run import describe_machine

EPOCHS, BATCH, SECONDS, MAX_DIFFERENCE = 3, 64, 600, 1e-6
LEGS = (2, 1, 2)


def write_digits(folder: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels.reshape(8, 8) * 255 / 16).round().astype("uint8")).save(path)


def megavit(*arguments: str | Path, cwd: Path) -> None:
    command = [sys.executable, "-m", "megavit", *map(str, arguments)]
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


def work(out: Path, shards: Path, end: int) -> None:
    """Train as one of the processes, or go on; at step `end` be killed."""
    from megavit.data.loader.sampler import ResumableBatchSampler
    from megavit.runtime.process_group import get_dist_context
    from megavit.training import data
    from megavit.training.loop import loop
    from megavit.training.progress import NullReporter
    from megavit.training.run import resume, train

    dist = get_dist_context()
    step, batches = loop.train_step, ResumableBatchSampler.__iter__
    chosen: dict[int, list[int]] = {}

    def logged_batches(order):
        for number, batch in enumerate(batches(order), start=order.start):
            chosen[number] = batch
            yield batch

    def logged_step(state, *rest, **more):
        before = state.step
        if before == end:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = step(state, *rest, **more)
        with (out.parent / f"{out.name}.jsonl").open("a") as file:
            file.write(json.dumps([before, dist.rank, dist.world_size, float(loss), chosen[before]]) + "\n")
        return loss

    loop.train_step = logged_step
    setattr(ResumableBatchSampler, "__iter__", logged_batches)  # noqa: B010
    data.MEMORY_SHARE = 0.0
    parallel = {"timeout_seconds": 60.0}
    if (out / "plan.json").exists():
        resume(out, reporter=NullReporter(), parallel=parallel | {"nproc": dist.world_size})
        return
    run = {"epochs": EPOCHS, "batch_size": BATCH, "checkpoint_seconds": 1e-4, "precision": "float32", "device": "cpu"}
    # Random augmentation differs between processes, and Muon's orthogonalization in bfloat16 is not exact enough.
    plain = {"augment": {"shift": 0.0, "mixup": 0.0}, "schedule": {"patch_drop": 0.0}, "optimizer": {"kind": "adamw"}}
    changes = {"run": run, "parallel": parallel} | plain
    train(str(shards), out, recipe="demo", overrides=changes, reporter=NullReporter())


def run_leg(out: Path, shards: Path, procs: int, end: int) -> None:
    own = [__file__, "--work", str(out), "--shards", str(shards), "--end", str(end)]
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(procs)]
    command = [sys.executable, *(agent if procs > 1 else []), *own]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=SECONDS, check=False)
    if (done.returncode == 0) != (end < 0):
        raise SystemExit(done.stderr.decode())


def read_log(out: Path) -> tuple[dict[int, float], dict[int, list[int]], int]:
    """The last loss and images of each step, and how many steps were done again."""
    rows: dict[int, dict[int, tuple[int, float, list[int]]]] = {}
    count = 0
    for line in (out.parent / f"{out.name}.jsonl").read_text().splitlines():
        step, rank, world, loss, images = json.loads(line)
        before = rows.setdefault(step, {})
        if rank in before or any(other[0] != world for other in before.values()):
            before.clear()
            count += 1
        before[rank] = (world, loss, images)
    losses = {step: sum(row[1] for row in by.values()) / len(by) for step, by in rows.items()}
    images = {step: [place for rank in sorted(by) for place in by[rank][2]] for step, by in rows.items()}
    return losses, images, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--end", type=int, default=-1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work, arguments.shards, arguments.end)
        return
    rng = random.Random(0)
    found: list[dict[str, object]] = []
    failures = 0
    with TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        write_digits(root / "digits")
        megavit("shard", "digits", "--out", "shards", "--shard-size", "66kB", cwd=root)
        shards = root / "shards"
        run_leg(root / "uninterrupted", shards, 1, -1)
        losses, images, _ = read_log(root / "uninterrupted")
        count = len(set(chain.from_iterable(images.values())))
        for turn in range(arguments.turns):
            out, last = root / f"cut-{turn}", max(losses)
            cuts = sorted(rng.sample(range(2, last), 2))
            for procs, end in zip(LEGS, (*cuts, -1), strict=True):
                run_leg(out, shards, procs, end)
            resumed_losses, order, repeated = read_log(out)
            stream = list(chain.from_iterable(order[step] for step in sorted(order)))
            epochs = [stream[start : start + count] for start in range(0, len(stream) - count + 1, count)]
            lost = sum(count - len(set(epoch)) for epoch in epochs)
            duplicated = sum(len(epoch) - len(set(epoch)) for epoch in epochs)
            difference = max(abs(resumed_losses[step] / losses[step] - 1) for step in losses)
            failures += bool(lost or duplicated or order != images or not difference <= MAX_DIFFERENCE)
            found.append(
                {
                    "killed before steps": cuts,
                    "steps": len(order),
                    "steps done again": repeated,
                    "images": count,
                    "lost": lost,
                    "doubled": duplicated,
                    "same order": order == images,
                    "largest difference of a loss, as a share of it": difference,
                }
            )
            print(json.dumps(found[-1]), flush=True)  # noqa: T201
    reported = {"about": describe_machine(torch.device("cpu")), "legs": LEGS, "turns": found}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(reported, indent=1) + "\n")
    if failures:
        sys.exit("the order or the losses differ from the uninterrupted run")


if __name__ == "__main__":
    main()
