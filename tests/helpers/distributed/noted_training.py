"""Be `megavit` with every step noted: python -m tests.helpers.distributed.noted_training (worker | agent) ARGUMENTS.

The environment says where steps are noted, which rank is slow, and which has a loss that is no number at a step.
"""

import json
import os
import runpy
import sys
import time
from dataclasses import replace
from pathlib import Path

NOTES, SLOW_RANK, NAN_RANK = "NOTED_TRAINING_FILE", "NOTED_TRAINING_SLOW", "NOTED_TRAINING_NAN"
MODULE = "tests.helpers.distributed.noted_training"
NAN_AT = 30


def note_steps() -> None:
    """Have the training loop append [time, process, rank, step, loss, skipped] to a file after each step."""
    from megavit.training.loop import loop

    rank, train_step = os.environ.get("RANK", "0"), loop.train_step

    def noted_step(state, task, images, labels, *rest, **more):
        if os.environ.get(SLOW_RANK) == rank:
            time.sleep(0.05)
        if os.environ.get(NAN_RANK) == rank and state.step == NAN_AT:
            loss_function = task.loss
            task = replace(task, loss=lambda logits, targets: loss_function(logits, targets) * float("nan"))
        loss = train_step(state, task, images, labels, *rest, **more)
        note = [time.monotonic(), os.getpid(), int(rank), state.step, loss, state.skipped]
        with Path(os.environ[NOTES]).open("a") as file:
            file.write(json.dumps(note) + "\n")
        return loss

    loop.train_step = noted_step


def start_noting_workers() -> None:
    """Have the agent of --nproc start this module in place of `megavit`."""
    from torch.distributed.launcher import api

    launch_agent = api.launch_agent

    def launch_noting_agent(config, entrypoint, args, *rest):
        return launch_agent(config, entrypoint, ["-m", MODULE, "worker", *args[2:]], *rest)

    setattr(api, "launch_agent", launch_noting_agent)  # noqa: B010 - of another signature's names


if __name__ == "__main__":
    note_steps() if sys.argv[1] == "worker" else start_noting_workers()
    sys.argv = ["megavit", *sys.argv[2:]]
    runpy.run_module("megavit", run_name="__main__", alter_sys=True)
