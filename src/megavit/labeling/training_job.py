"""Train the real model on the labels in a process of its own, as `megavit train` does."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from megavit.errors import ConfigError

REPORT = "report.html"

State = Literal["none", "running", "done", "failed"]


class TrainingJob:
    """A training of a folder's labels, of which there is one at a time.

    Args:
        choose_out: function that returns a new folder for a run.
    """

    def __init__(self, folder: Path, choose_out: Callable[[], Path]) -> None:
        self._folder, self._choose_out = folder, choose_out
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._state: State = "none"
        self._out: Path | None = None
        self._line = ""

    def start(self, minutes: float) -> None:
        """Start to train for some minutes; raise a ConfigError if a training is running."""
        with self._lock:
            if self._state == "running":
                raise ConfigError("a model is being trained already: wait until it is done")
            self._out, self._line, self._state = self._choose_out(), "", "running"
            command = [sys.executable, "-m", "megavit", "train", str(self._folder)]
            command += ["--minutes", f"{minutes:g}", "--out", str(self._out)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            threading.Thread(target=self._follow, args=[self._process], daemon=True).start()

    def stop(self) -> None:
        """Ask a training to stop, which `megavit train --resume` can go on with, and wait for it."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()

    def describe(self) -> dict[str, Any]:
        """Return the state as plain JSON types, with the last line that the training has told."""
        return {"state": self._state, "out": str(self._out or ""), "line": self._line}

    def read_report(self) -> bytes:
        """Return the report of the last training; raise a ConfigError if there is none."""
        if self._state != "done" or self._out is None:
            raise ConfigError("there is no report yet: train a model first")
        return (self._out / REPORT).read_bytes()

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                if line.strip():
                    self._line = line.strip()[:500]
        self._state = "failed" if process.wait() else "done"
