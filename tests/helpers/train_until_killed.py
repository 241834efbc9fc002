"""Train on the demo's digits, killed after a step: python -m tests.helpers.train_until_killed OUT STEP."""

import os
import signal
import sys
from pathlib import Path

from megavit.training.progress import NullReporter
from megavit.training.run import train

CHANGES = {"run": {"epochs": 6, "batch_size": 32, "checkpoint_seconds": 0.2}, "model": {"dropout": 0.1}}


class KillAfterStep(NullReporter):
    """Kills its own process, without any chance to tidy up, after the step `last`; never for 0."""

    def __init__(self, last: int) -> None:
        self.last = last

    def step(self, step: int, steps: int, loss: float) -> None:
        if step == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train("demo:digits", Path(sys.argv[1]), recipe="demo", overrides=CHANGES, reporter=KillAfterStep(int(sys.argv[2])))
