"""Download in another process, which is ended when nothing arrives for too long."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from megavit.errors import BundleError

POLL_SECONDS = 0.1
MAX_MESSAGE = 500

OnBytes = Callable[[int], None]
"""A function that is called with the number of bytes that have arrived."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """The seconds that a download may take.

    Attributes:
        answer: for an answer of the server.
        begin: from its start until the first bytes, which includes that of the program.
        stall: without further bytes.
        total: altogether.
    """

    answer: float = 30.0
    begin: float = 60.0
    stall: float = 60.0
    total: float = float("inf")


def run_download(
    command: Sequence[str], folder: Path, env: Mapping[str, str], patience: Patience, on_bytes: OnBytes
) -> None:
    """Run a command that downloads into `folder`, with `env` added to the environment.

    Raises:
        BundleError: if the command fails or loses the patience; its message is the reason alone.
    """
    before = seen = _size(folder)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | dict(env)
        )
        try:
            started = arrived = time.monotonic()
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                now, size = time.monotonic(), _size(folder)
                if size != seen:
                    seen, arrived = size, now
                    on_bytes(max(0, size - before))
                limit = patience.begin if seen == before else patience.stall
                if now - arrived > limit:
                    raise BundleError(f"nothing arrived for {limit:g} seconds")
                if now - started > patience.total:
                    raise BundleError(f"it took more than {patience.total:.3g} seconds")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            output.seek(0)
            raise BundleError(_last_line(output.read().decode(errors="replace")))


def _size(folder: Path) -> int:
    """Return the bytes of all files in a folder, which other processes may be changing."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(parent) / name).lstat().st_size
            except OSError:
                continue
    return total


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1].removeprefix("ERROR: ") if lines else "the download failed without a message")[:MAX_MESSAGE]
