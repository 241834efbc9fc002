"""Real servers on loopback, in processes of their own."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 60
ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONWARNINGS": "error"}

STUB = """
import json, sys
from tests.helpers.servers import serve_stubs
serve_stubs(json.loads(sys.argv[1]), sys.argv[2:])
"""


def serve_stubs(settings: dict[str, Any], folders: list[str]) -> None:
    """Serve models of `stub_worker`, and print the address as JSON."""
    from megavit.serving.model_sources import parse_sources
    from megavit.serving.server import serve
    from megavit.serving.settings import Settings

    serve(
        parse_sources(folders),
        Settings(port=0, worker_module="tests.helpers.stub_worker", **settings),
        lambda address: print(json.dumps({"url": address}), flush=True),  # noqa: T201
    )


class ForkedServer:
    """A process forked from one that has imported the server already, with the methods of a `Popen`.

    A server of its own spends most of a test on importing.
    """

    def __init__(self, settings: dict[str, Any], folders: list[str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pytest", "megavit.serving.server", "megavit.serving.http.app"])
        before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)
        try:
            forkserver.ensure_running()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        self._process: ForkServerProcess = context.Process(
            target=_run_forked, args=[DupFd(out_end), DupFd(err_end), settings, folders]
        )
        self._process.start()
        os.close(out_end)
        os.close(err_end)
        self.stdout: IO[str] | None = os.fdopen(out)
        self.stderr: IO[str] | None = os.fdopen(err)
        self.pid: int = self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a server", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run_forked(out: Any, err: Any, settings: dict[str, Any], folders: list[str]) -> None:
    os.dup2(out.detach(), 1)
    os.dup2(err.detach(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    serve_stubs(settings, folders)


@dataclass
class Running:
    """A server; `log` grows while it runs."""

    process: "subprocess.Popen[str] | ForkedServer"
    address: str
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=PATIENCE, verify=False, **options)

    def post(self, body: bytes, path: str = "/predict", **options: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, content=body, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        with self.client() as client:
            return client.get(path, **options)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric; 0 if it was never counted."""
        wanted = "".join(sorted(f'{key}="{value}"' for key, value in labels.items()))
        for line in self.get("/metrics").text.splitlines():
            key, _, value = line.rpartition(" ")
            found, _, given = key.partition("{")
            if found == name and "".join(sorted(given.rstrip("}").split(","))) == wanted:
                return float(value)
        return 0.0

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in list(self.log) if line["event"] == event]

    def until(self, what: Any) -> None:
        """Wait for it to be true."""
        wait_until(what, lambda: f"{self.log[-5:]}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def wait_until(what: Any, why: Any = lambda: "", patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, why()
        time.sleep(0.02)


@contextmanager
def stub_server(*folders: Path, **settings: Any) -> Iterator[Running]:
    """Serve models of `stub_worker` in a forked process."""
    with _running(lambda: ForkedServer(settings, list(map(str, folders)))) as server:
        yield server


@contextmanager
def megavit_serve(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run `megavit serve`, as a user starts it."""
    command = [sys.executable, "-m", "megavit", "serve", *map(str, arguments), "--port", "0", "--json"]
    whole = os.environ | ENVIRONMENT | dict(env or {})
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with _running(lambda: subprocess.Popen(command, cwd=ROOT, env=whole, **pipes)) as server:
        yield server


@contextmanager
def _running(start: "Callable[[], subprocess.Popen[str] | ForkedServer]") -> Iterator[Running]:
    process = start()
    server = Running(process, "")
    raw: list[str] = []
    reader = threading.Thread(target=_collect, args=[process, server.log, raw], daemon=True)
    reader.start()
    assert process.stdout is not None
    workers: list[psutil.Process] = []
    try:
        line = process.stdout.readline()
        assert line, "".join(raw)
        server.address = json.loads(line)["url"]
        workers = server.workers()
        yield server
        if process.poll() is None:
            workers = server.workers()
            process.terminate()
            process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        reader.join(PATIENCE)
        process.stdout.close()
    assert not raw, raw  # everything that is printed is a line of the log
    wait_until(lambda: not any(is_alive(worker) for worker in workers))
    assert [line for line in server.log if line.get("logger") == "asyncio" or line["event"] == "error"] == []


def _collect(process: "subprocess.Popen[str] | ForkedServer", log: list[dict[str, Any]], raw: list[str]) -> None:
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            try:
                log.append(json.loads(line))
            except ValueError:
                raw.append(line)


@contextmanager
def peak_above(pid: int, most_mib: float) -> Iterator[None]:
    """Fail if a process, at its peak, takes that much more memory than before."""
    process = Path("/proc") / str(pid)
    (process / "clear_refs").write_text("5")  # see proc_pid_clear_refs(5)
    before = psutil.Process(pid).memory_info().rss
    yield
    lines = (process / "status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    assert peak - before < most_mib * 2**20, f"{(peak - before) / 2**20:.0f} MiB more"


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
