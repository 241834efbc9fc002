"""Train as one process of several that kills itself at random: torchrun -m tests.helpers.distributed.train_with_kills.

Arguments: the run's folder, the FSDP group's size, the tensor-parallel group's size, and a seed; seed 0 kills nothing.
Beside the folder, OUT-RANK.jsonl gets [step, loss, indices of the images] for each step, OUT-kills.jsonl each kill.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

from torch.distributed import checkpoint as dcp

from megavit.data.loader.sampler import ResumableBatchSampler
from megavit.runtime.process_group import get_dist_context
from megavit.training.checkpoint import distributed
from megavit.training.loop import loop
from megavit.training.progress import NullReporter
from megavit.training.run import train

EPOCHS, BATCH, KILLS_A_RUN = 2, 64, 4
PLACES = ("step", "before writing", "half written", "before the manifest")


def main(out: Path, fsdp: int, tp: int, seed: int) -> None:
    """Train, noting every step, and kill this process where the dice say so."""
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
        ResumableBatchSampler.__iter__,
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
    setattr(ResumableBatchSampler, "__iter__", noted_batches)  # noqa: B010
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
        "parallel": {"fsdp": fsdp, "tp": tp, "timeout_seconds": 60.0},
    }
    train("demo:digits", out, recipe="demo", overrides=changes, reporter=NullReporter())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
