"""Run other commands of megavit on a folder while it is labeled, each in a process of its own."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from megavit.errors import ConfigError

REPORT = "report.html"
ERROR_START = "megavit: "
"""Beginning of the line by which a command says why it has failed."""

State = Literal["none", "running", "done", "failed"]


class CommandJob:
    """A command of megavit in a process of its own, which runs once at a time.

    Args:
        success: exit codes of a command that did what it should.

    Attributes:
        state: what it is doing.
        line: last line that it has written to standard error, or why it has failed.
        output: what it has written to standard output when it is done.
    """

    def __init__(self, success: Sequence[int] = (0,)) -> None:
        self.state: State = "none"
        self.line = self.output = ""
        self._success = tuple(success)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> None:
        """Start the command; raise a ConfigError if it is running."""
        with self._lock:
            if self.state == "running":
                raise ConfigError("this is running already: wait until it is done")
            self.line, self.state = "", "running"
            self._process = subprocess.Popen(
                [sys.executable, "-m", "megavit", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            threading.Thread(target=self._follow, args=[self._process], daemon=True).start()

    def stop(self) -> None:
        """Ask the command to stop, and wait until it has."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None and process.stderr is not None
        lines = threading.Thread(target=self._follow_lines, args=[process.stderr], daemon=True)
        lines.start()
        with process.stdout:
            self.output = process.stdout.read()
        lines.join()
        self.state = "done" if process.wait() in self._success else "failed"

    def _follow_lines(self, lines: IO[str]) -> None:
        with lines:
            is_error = False
            for line in lines:
                is_error = is_error or line.startswith(ERROR_START)
                # An error may go on with advice on further lines.
                if line.strip() and (not is_error or line.startswith(ERROR_START)):
                    self.line = line.removeprefix(ERROR_START).strip()[:500]


class TrainingJob:
    """A training on the labels of a folder, as `megavit train` does it.

    Args:
        choose_out: function that returns a new folder for a run.
    """

    def __init__(self, folder: Path, choose_out: Callable[[], Path]) -> None:
        self.job = CommandJob()
        self._folder, self._choose_out = folder, choose_out
        self._out: Path | None = None

    def start(self, minutes: float) -> None:
        """Start to train for some minutes; raise a ConfigError if a training is running."""
        out = self._choose_out()
        self.job.start("train", str(self._folder), "--minutes", f"{minutes:g}", "--out", str(out))
        self._out = out

    def describe(self) -> dict[str, Any]:
        """Return the state as plain JSON types, with the last line that the training has written."""
        return {"state": self.job.state, "out": str(self._out or ""), "line": self.job.line}

    def read_report(self) -> bytes:
        """Return the report of the last training; raise a ConfigError if there is none."""
        if self.job.state != "done" or self._out is None:
            raise ConfigError("there is no report yet: train a model first")
        return (self._out / REPORT).read_bytes()


class CheckJob:
    """A check of the labels of a folder, as `megavit check` does it."""

    def __init__(self, folder: Path) -> None:
        self.job = CommandJob(success=(0, 1))  # 1: there are serious findings
        self._folder = folder

    def start(self) -> None:
        """Start the check; raise a ConfigError if it is running."""
        self.job.start("check", str(self._folder), "--json")

    def describe(self) -> dict[str, Any]:
        """Return the state as plain JSON types."""
        line = self.job.line
        if self.job.state == "failed" and self.job.output:
            line = json.loads(self.job.output)["error"]["message"]
        return {"state": self.job.state, "line": line}

    def read_findings(self) -> list[dict[str, Any]]:
        """Return the findings, the most serious first, as `megavit check --json` prints them; none until it is done."""
        return json.loads(self.job.output)["findings"] if self.job.state == "done" else []
