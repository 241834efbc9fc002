"""Servers as processes of their own: started, watched, held still while others are measured, and ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import psutil

import megavit

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(megavit.__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """In which this folder's code and megavit's are found by any Python."""
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(SOURCE), str(ROOT)))}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def process_tree(root: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        one = psutil.Process(root)
        return [one, *one.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """That these processes have used so far."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def pss(processes: Sequence[psutil.Process]) -> int:
    """Bytes of memory of these processes; what they share counts once (Linux's proportional set size)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def reset_peak_memory(process: psutil.Process) -> int:
    """Bytes that a process holds now; from here on `peak_above` counts."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # see proc_pid_clear_refs(5)
    return process.memory_info().rss


def peak_memory_above(process: psutil.Process, before: int) -> int:
    """Bytes more than `before` that a process held at most since `forget_peak`."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 - before
    raise RuntimeError("this system does not report the peak memory of a process")


class ServerProcess:
    """A server on a free port of the loopback interface.

    Attributes:
        cores: of all servers, the processors that they may run on; None for any.
        ready_seconds: from its start until it was asked whether it is ready and said so.
        errors: file that its standard error goes to.
    """

    cores: ClassVar[list[int] | None] = None

    def __init__(self, command: list[str], health: str, folder: Path, port: int) -> None:
        self.port, self._health = port, health
        self.started = time.perf_counter()
        self.errors = folder / f"{port}.log"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, env=environment(), cwd=folder, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        if self.cores is not None:
            psutil.Process(self.process.pid).cpu_affinity(self.cores)
        self._wait()
        self.ready_seconds = time.perf_counter() - self.started

    def _wait(self, seconds: float = 120) -> None:
        while time.perf_counter() - self.started < seconds:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args} exited at once:\n{self.errors.read_text()[-3000:]}")
            if self.get(self._health)[0] == 200:
                return
            time.sleep(0.02)  # polling more often would slow down its start
        self.kill()
        raise RuntimeError(f"{self.process.args} was not ready within {seconds} s:\n{self.errors.read_text()[-3000:]}")

    def get(self, path: str) -> tuple[int, bytes]:
        """(status, body); the status is 0 where there is no answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def processes(self) -> list[psutil.Process]:
        return process_tree(self.process.pid)

    def worker(self) -> psutil.Process:
        """The process that holds the model: the largest below the first."""
        return max(self.processes()[1:], key=lambda process: pss([process]))

    def log(self) -> list[dict[str, Any]]:
        """Its lines so far, of JSON."""
        return [json.loads(line) for line in self.errors.read_text().splitlines() if line.startswith("{")]

    def healthy(self) -> bool:
        return self.get(self._health)[0] == 200

    def pause(self) -> None:
        """Held still, so that what it does when idle costs the others nothing."""
        for process in self.processes():
            process.suspend()

    def resume(self) -> None:
        for process in self.processes():
            process.resume()

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60) -> tuple[int, int]:
        """Its exit code after a signal, and how many of its processes are there a second later; they are killed."""
        before = self.processes()
        self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = 999
        return code, kill_orphans(before)

    def kill(self) -> None:
        for process in self.processes():
            process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.resume()
            self.stop()


def kill_orphans(before: Sequence[psutil.Process], seconds: float = 1.0) -> int:
    """How many of these processes are there after so many seconds; they are killed."""
    end = time.perf_counter() + seconds
    while (left := [process for process in before if is_alive(process)]) and time.perf_counter() < end:
        time.sleep(0.02)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return len(left)


def start_megavit(bundle: Path, folder: Path, *options: str) -> ServerProcess:
    """`megavit serve` of a bundle, as the model "m"."""
    port = free_port()
    command = [sys.executable, "-m", "megavit", "serve", f"m={bundle}", "--port", str(port), *options]
    return ServerProcess(command, "/health/ready", folder, port)


def start_litserve(python: Path, bundle: Path, folder: Path, *options: str) -> ServerProcess:
    """LitServe with the same model, in the Python that has it."""
    port = free_port()
    command = [str(python), "-m", "benchmarks.serving.litserve_app", str(bundle), "--port", str(port), *options]
    return ServerProcess(command, "/health", folder, port)


class RawModel:
    """The model without a server, in a process of its own; see `benchmarks.serving.raw`."""

    def __init__(self, bundle: Path, images: list[Path]) -> None:
        command = [sys.executable, "-m", "benchmarks.serving.raw", str(bundle), *map(str, images)]
        self.process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: float | str) -> dict[str, object]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process with the model alone has died")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with self.process.stdout:
            self.process.stdin.close()
            self.process.wait()
