"""Start real training processes, find them, and wait for what they write."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from megavit.training.checkpoint.checkpoint import list_checkpoints
from tests.helpers.waiting import wait_until

QUICK = ["--epochs", "3", "--batch-size", "16", "--precision", "float32", "--device", "cpu"]
TWO = ["--nproc", "2"]


def start_training(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start `megavit train` with a checkpoint after every step."""
    command = [sys.executable, "-m", "megavit", "train", *map(str, arguments), "--checkpoint-seconds", "0.0001"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_step(process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    """Wait for a checkpoint of at least `step` below `out`; the process must live until then."""

    def reached() -> bool:
        return any(int(path.name.removeprefix("step-")) >= step for path in list_checkpoints(out / "checkpoints"))

    wait_until(reached, possible=lambda: process.poll() is None)


def find_workers(out: Path) -> list[int]:
    """Return the ids of the processes that train in `out`, without the one that started them."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            is_worker = b"RANK=" in (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(out).encode() in command and is_worker:
            found.append(int(folder.name))
    return found


def wait_until_gone(out: Path) -> None:
    """Wait until no worker of `out` is left: the kernel ends them when their parent is gone."""
    wait_until(lambda: not find_workers(out))


def read_manifest(out: Path) -> dict[str, Any]:
    """Return what the newest checkpoint below `out` says of itself."""
    return json.loads((list_checkpoints(out / "checkpoints")[0] / "manifest.json").read_text())


def read_weights(out: Path) -> bytes:
    """Return the bytes of the weights of a finished run."""
    return (out / "bundle" / "model.safetensors").read_bytes()
