"""A run of two processes whose every step is noted, to disturb and to compare with one that nobody disturbed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.distributed.noted_training import MODULE, NOTES
from tests.helpers.distributed.torchrun import ROOT
from tests.helpers.processes import is_alive, wait_until_ended
from tests.helpers.training_process import read_weights
from tests.helpers.waiting import wait_until

EPOCHS, BATCH, TIMEOUT, DISTURBED_AT = 8, 64, 15, 60
RECIPE = """base = "demo"
[run]
batch_size = {batch}
precision = "float32"
device = "cpu"
checkpoint_seconds = 0.5
{length}
[parallel]
timeout_seconds = {timeout}
"""
WITHOUT_RANDOMNESS = """[augment]
shift = 0.0
mixup = 0.0
[schedule]
patch_drop = 0.0
[optimizer]
kind = "adamw"
"""
"""Random numbers, and Muon's bfloat16, differ with the number of processes."""


@dataclass
class Note:
    """A step of one process."""

    at: float
    pid: int
    rank: int
    step: int
    loss: float
    skipped: int


@dataclass
class NotedRun:
    """A run in `out`, with a recipe and notes beside it."""

    out: Path
    length: str = f"epochs = {EPOCHS}"
    more: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.recipe = self.out.with_suffix(".toml")
        self.recipe.write_text(RECIPE.format(batch=BATCH, length=self.length, timeout=TIMEOUT) + self.more)

    @property
    def training(self) -> list[str]:
        return ["train", "demo:digits", "--recipe", str(self.recipe), "--out", str(self.out)]

    def popen(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a Python command in a session of its own, with its output added to the run's."""
        own = {
            NOTES: str(self.out.with_suffix(".notes")),
            "OMP_NUM_THREADS": "1",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        with self.out.with_suffix(".output").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=os.environ | own | self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> subprocess.Popen[bytes]:
        return self.popen("-m", MODULE, "agent", *self.training, "--nproc", "2")

    def resume(self) -> int:
        """Resume the run; return the exit code."""
        return self.popen("-m", MODULE, "agent", "train", "--resume", str(self.out), "--nproc", "2").wait()

    def start_node(self, nodes: str, port: int) -> subprocess.Popen[bytes]:
        """Start torchrun as on one machine of several."""
        torchrun = ["-m", "torch.distributed.run", "--nnodes", nodes, "--nproc-per-node", "1", "--max-restarts", "5"]
        torchrun += ["--rdzv-id", self.out.name, "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
        torchrun += ["--local-addr", "localhost", "--rdzv-conf", "last_call_timeout=3,join_timeout=120"]
        return self.popen(*torchrun, "-m", MODULE, "worker", *self.training)

    def notes(self) -> list[Note]:
        with suppress(FileNotFoundError):
            lines = self.out.with_suffix(".notes").read_text().split("\n")[:-1]
            return [Note(*json.loads(line)) for line in lines]
        return []

    def output(self) -> str:
        return self.out.with_suffix(".output").read_text(errors="replace")

    def wait_for(self, reached: Callable[[list[Note]], bool]) -> list[Note]:
        """Wait until the notes are so; return them."""
        wait_until(lambda: reached(self.notes()), why=lambda: self.output()[-3000:])
        return self.notes()

    def wait_for_step(self, step: int = DISTURBED_AT) -> dict[int, int]:
        """Wait for a step; return the processes that train, by rank."""
        notes = self.wait_for(lambda notes: any(note.step >= step for note in notes))
        return {note.rank: note.pid for note in notes if is_alive(note.pid)}

    def losses(self) -> dict[int, float]:
        """Return the loss of each step, as it was done last."""
        return {note.step: note.loss for note in self.notes()}

    def assert_equals(self, undisturbed: "NotedRun") -> None:
        """All losses and the weights are the same to the bit, and no process is left."""
        assert self.losses() == undisturbed.losses()
        assert read_weights(self.out) == read_weights(undisturbed.out)
        self.assert_no_process_is_left()

    def assert_no_process_is_left(self) -> None:
        wait_until_ended({note.pid for note in self.notes()})


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
