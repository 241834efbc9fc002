"""Kills processes of distributed runs with SIGKILL, at random steps and inside checkpoints; compares all that is left.

    python benchmarks/parallel_kills.py --kills 100

Every layout (DDP, FSDP2, HSDP, FSDP2 with tensor parallelism) is trained once undisturbed, then again under torchrun
while its processes kill themselves at random, until there have been so many kills in all; torchrun starts them again.
Each loss of each step, the final weights, and the images of every epoch must be as undisturbed: to the bit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

FORMATS = {"DDP": (2, 1, 1), "FSDP2": (2, 2, 1), "HSDP": (4, 2, 1), "FSDP2 + TP": (4, 2, 2)}  # procs, shard, tensor
EPOCHS, BATCH, KILLS_A_RUN, SECONDS = 2, 64, 4, 600
PLACES = ("step", "before writing", "half written", "before the manifest")


@dataclass
class Result:
    """What came of the kills of one layout."""

    layout: str
    kills: int = 0
    in_checkpoints: int = 0
    other_losses: int = 0
    other_weights: int = 0
    lost: int = 0
    doubled: int = 0
    hung: int = 0
    orphans: int = 0


def work(out: Path, shard: int, tensor: int, seed: int) -> None:
    """Train as one of the processes, and kill this one where the dice say so; seed 0: nowhere."""
    from torch.distributed import checkpoint as dcp

    from megavit.data.loader.sampler import BatchOrder
    from megavit.runtime.process_group import get_dist_context
    from megavit.train.checkpoint import distributed
    from megavit.train.loop import loop
    from megavit.train.progress import NullReporter
    from megavit.train.run import train

    dist = get_dist_context()
    dice = random.Random(f"{seed} {dist.restarts}")
    armed = seed > 0 and dist.restarts < KILLS_A_RUN
    victim, after, place = dice.randrange(dist.world_size), dice.randint(1, 4), dice.choice(PLACES)
    steps_here, saves_here = 0, 0
    chosen: dict[int, list[int]] = {}

    def die(now: str) -> None:
        due = steps_here if now == "step" else saves_here
        if armed and dist.rank == victim and now == place and due >= after:
            with (out.parent / f"{out.name}-kills.jsonl").open("a") as file:
                file.write(json.dumps(place) + "\n")
            os.kill(os.getpid(), signal.SIGKILL)

    step, batches, write, seal = (
        loop.train_step,
        BatchOrder.__iter__,
        dcp.FileSystemWriter.write_data,
        distributed._compute_digests,
    )

    def noted_batches(order):
        for number, batch in enumerate(batches(order), start=order.start):
            chosen[number] = batch
            yield batch

    def noted_step(state, *rest, **more):
        nonlocal steps_here
        before = state.step
        loss = step(state, *rest, **more)
        with (out.parent / f"{out.name}-{dist.rank}.jsonl").open("a") as file:
            file.write(json.dumps([before, loss, chosen[before]]) + "\n")
        steps_here += 1
        die("step")
        return loss

    def noted_write(writer, plan, planner):
        nonlocal saves_here
        saves_here += 1
        die("before writing")
        written = write(writer, plan, planner)
        if armed and dist.rank == victim and place == "half written" and saves_here >= after:
            for path in Path(writer.path).glob(f"__{dist.rank}_*"):
                os.truncate(path, path.stat().st_size // 2)
            die("half written")
        return written

    def noted_seal(*arguments):
        die("before the manifest")
        return seal(*arguments)

    loop.train_step = noted_step
    setattr(BatchOrder, "__iter__", noted_batches)  # noqa: B010
    setattr(dcp.FileSystemWriter, "write_data", noted_write)  # noqa: B010 - of another signature's names
    setattr(distributed, "_compute_digests", noted_seal)  # noqa: B010
    changes = {
        "run": {
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "checkpoint_seconds": 1e-4,
            "precision": "float32",
            "device": "cpu",
        },
        "model": {"dropout": 0.1},
        "parallel": {"fsdp": shard, "tp": tensor, "timeout_seconds": 60.0},
    }
    train("demo:digits", out, recipe="demo", overrides=changes, reporter=NullReporter())


def run(out: Path, layout: tuple[int, int, int], seed: int) -> bool:
    """Train under torchrun; whether it ended by itself."""
    procs, shard, tensor = layout
    agent = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    agent += ["--local-addr", "localhost", "--nproc-per-node", str(procs), "--max-restarts", str(KILLS_A_RUN + 1)]
    own = [__file__, "--work", str(out), "--shard", str(shard), "--tensor", str(tensor), "--seed", str(seed)]
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*agent, *own], env=environment, stderr=subprocess.PIPE)
    try:
        _, told = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode:
        raise SystemExit(told.decode())
    return True


def left_of(out: Path, procs: int) -> tuple[list[dict[int, float]], list[dict[int, list[int]]], int]:
    """The last loss and images of each step in each process, and how many repeated losses were not as before."""
    losses, images, different = [], [], 0
    for rank in range(procs):
        loss: dict[int, float] = {}
        seen: dict[int, list[int]] = {}
        for line in (out.parent / f"{out.name}-{rank}.jsonl").read_text().splitlines():
            step, value, chosen = json.loads(line)
            different += step in loss and loss[step] != value
            loss[step], seen[step] = value, chosen
        losses.append(loss)
        images.append(seen)
    return losses, images, different


def lost_and_doubled(images: list[dict[int, list[int]]], tensor: int, count: int) -> tuple[int, int]:
    """Images that were not trained on in a whole epoch, or more than once."""
    stream = [place for step in sorted(images[0]) for seen in images[::tensor] for place in seen[step]]
    lost = doubled = 0
    for epoch in range(len(stream) // count):
        part = stream[epoch * count : (epoch + 1) * count]
        lost += count - len(set(part))
        doubled += len(part) - len(set(part))
    return lost, doubled


def orphans(out: Path) -> int:
    """Processes that still name the folder of a run that has ended."""
    time.sleep(1)
    found = 0
    for folder in Path("/proc").iterdir():
        try:
            found += str(out).encode() in (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--layouts", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    for name in ("--shard", "--tensor", "--seed"):
        parser.add_argument(name, type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work, arguments.shard, arguments.tensor, arguments.seed)
        return

    from megavit.runtime.storage import sha256

    results = []
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(arguments.layouts):
            layout, result = FORMATS[name], Result(name)
            whole = Path(folder) / f"{place}-whole"
            run(whole, layout, 0)
            losses, images, _ = left_of(whole, layout[0])
            wanted = sha256(whole / "bundle" / "model.safetensors")
            share = -(-arguments.kills // len(arguments.layouts))
            seed = 0
            while result.kills < share and result.hung < 3:
                seed += 1
                out = Path(folder) / f"{place}-{seed}"
                if not run(out, layout, seed):
                    result.hung += 1
                    continue
                kills = [json.loads(line) for line in Path(f"{out}-kills.jsonl").read_text().splitlines()]
                found, seen, different = left_of(out, layout[0])
                result.kills += len(kills)
                result.in_checkpoints += sum(kill != "step" for kill in kills)
                result.other_losses += different + (found != losses)
                result.other_weights += sha256(out / "bundle" / "model.safetensors") != wanted
                lost, doubled = lost_and_doubled(
                    seen, layout[2], len({i for one in images for p in one.values() for i in p})
                )
                result.lost, result.doubled = result.lost + lost, result.doubled + doubled
                result.orphans += orphans(out)
            results.append(result)
            sys.stdout.write(json.dumps(asdict(result)) + "\n")
            sys.stdout.flush()
    if arguments.out is not None:
        arguments.out.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    bad = sum(r.other_losses + r.other_weights + r.lost + r.doubled + r.hung + r.orphans for r in results)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
