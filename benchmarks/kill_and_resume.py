"""Kills training runs with SIGKILL at random steps, resumes each, and compares the weights to the bit.

    python benchmarks/kill_and_resume.py --kills 20

Each run is a process of its own that kills itself at its step, and is then gone on with by `megavit train --resume`.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from megavit.runtime.storage import sha256
from megavit.train.progress import NullReporter
from megavit.train.run import train

CHANGES = {"run": {"epochs": 6, "batch_size": 32, "checkpoint_seconds": 0.2}, "model": {"dropout": 0.1}}


class KillAt(NullReporter):
    """Kills its own process, without any chance to tidy up, after a step."""

    def __init__(self, last: int) -> None:
        self.last = last

    def step(self, step: int, steps: int, loss: float) -> None:
        if step == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def run_until(out: Path, last: int) -> None:
    """Train in another process, killed after step `last`; 0 for never."""
    command = [sys.executable, __file__, "--out", str(out), "--last", str(last)]
    code = subprocess.run(command, check=False).returncode
    expected = -signal.SIGKILL if last else 0
    if code != expected:
        raise SystemExit(f"the run was to end with {expected}, and ended with {code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--last", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.out is not None:
        train("demo:digits", arguments.out, recipe="demo", overrides=CHANGES, reporter=KillAt(arguments.last))
        return

    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        run_until(whole, 0)
        wanted = sha256(whole / "bundle" / "model.safetensors")
        steps = int(max(path.name for path in (whole / "checkpoints").iterdir()).removeprefix("step-"))
        same = 0
        for last in sorted(random.Random(arguments.seed).sample(range(1, steps), arguments.kills)):
            out = Path(folder) / f"killed-{last}"
            run_until(out, last)
            resumed = [sys.executable, "-m", "megavit", "train", "--resume", str(out), "--json"]
            subprocess.run(resumed, check=True, capture_output=True)
            equal = sha256(out / "bundle" / "model.safetensors") == wanted
            same += equal
            sys.stdout.write(f"killed after step {last:4} of {steps}: {'identical' if equal else 'DIFFERENT'}\n")
        sys.stdout.write(f"{same} of {arguments.kills} identical\n")
        sys.exit(same < arguments.kills)


if __name__ == "__main__":
    main()
