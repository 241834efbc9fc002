"""Run the `megavit` command, in this process or in one of its own."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megavit.cli import app

Completed = subprocess.CompletedProcess[str]


def run_megavit(*arguments: str | Path, cwd: Path, stdin: bytes = b"") -> Completed:
    """Run a command line in this process, which spares the seconds that an interpreter takes to import torch."""
    command = [str(argument) for argument in arguments]
    with contextlib.chdir(cwd), _replaced_stdin(stdin), _captured("stdout") as out, _captured("stderr") as err:
        code = app.run(command)
    return Completed(command, code, *(stream.getvalue().decode(errors="surrogateescape") for stream in (out, err)))


def run_megavit_json(*arguments: str | Path, cwd: Path) -> dict[str, Any]:
    """Return what the command prints with --json; it must succeed."""
    done = run_megavit(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def run_megavit_process(*arguments: str | Path, cwd: Path) -> Completed:
    """Run the command as a user does, in a process that warnings end; it must never print a traceback."""
    command = [sys.executable, "-W", "error", "-m", "megavit", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False)
    texts = [stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr)]
    assert "Traceback" not in texts[1], texts[1]
    return Completed(command, done.returncode, *texts)


@contextlib.contextmanager
def _replaced_stdin(content: bytes) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(content))
    try:
        yield
    finally:
        sys.stdin = before


@contextlib.contextmanager
def _captured(name: str) -> Iterator[io.BytesIO]:
    """Everything that is written to sys.stdout or sys.stderr, as the bytes that a pipe would get."""
    content = io.BytesIO()
    before = getattr(sys, name)
    setattr(sys, name, io.TextIOWrapper(content, "utf-8", before.errors, write_through=True))
    try:
        yield content
    finally:
        getattr(sys, name).detach()
        setattr(sys, name, before)
