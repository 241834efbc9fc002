"""Real servers on loopback, in processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 60

STUB = """
import json, sys
from megavit.serve.server import serve
from megavit.serve.settings import Settings
from megavit.serve.model_sources import parse_sources
settings = Settings(port=0, worker_module="tests.helpers.stub_worker", **json.loads(sys.argv[1]))
serve(parse_sources(sys.argv[2:]), settings, lambda address: print(json.dumps({"address": address}), flush=True))
"""


@dataclass
class Running:
    """A server; `log` grows while it runs."""

    process: subprocess.Popen[str]
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
        """0 where it was never counted."""
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
        until(what, lambda: f"{self.log[-5:]}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def until(what: Any, why: Any = lambda: "", patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, why()
        time.sleep(0.02)


@contextmanager
def stub_server(*folders: Path, **settings: Any) -> Iterator[Running]:
    """One of `stub_worker` models."""
    with _running([sys.executable, "-c", STUB, json.dumps(settings), *map(str, folders)]) as server:
        yield server


@contextmanager
def megavit_serve(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`megavit serve`, as a user starts it."""
    command = [sys.executable, "-m", "megavit", "serve", *map(str, arguments), "--port", "0", "--json"]
    with _running(command, env or {}) as server:
        yield server


@contextmanager
def _running(command: list[str], env: Mapping[str, str] | None = None) -> Iterator[Running]:
    whole = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONWARNINGS": "error"} | dict(env or {})
    process = subprocess.Popen(command, cwd=ROOT, env=whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server = Running(process, "")
    raw: list[str] = []
    reader = threading.Thread(target=_collect, args=[process, server.log, raw], daemon=True)
    reader.start()
    assert process.stdout is not None
    workers: list[psutil.Process] = []
    try:
        line = process.stdout.readline()
        assert line, "".join(raw)
        server.address = json.loads(line)["address"]
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
    assert not raw, raw  # everything that is said is a line of the log
    until(lambda: not any(lives(worker) for worker in workers))
    assert [line for line in server.log if line.get("logger") == "asyncio" or line["event"] == "error"] == []


def _collect(process: subprocess.Popen[str], log: list[dict[str, Any]], raw: list[str]) -> None:
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            try:
                log.append(json.loads(line))
            except ValueError:
                raw.append(line)


@contextmanager
def peak_above(pid: int, most_mib: float) -> Iterator[None]:
    """Fails where a process, at its peak, takes that much more memory than before."""
    process = Path("/proc") / str(pid)
    (process / "clear_refs").write_text("5")  # see proc_pid_clear_refs(5)
    before = psutil.Process(pid).memory_info().rss
    yield
    lines = (process / "status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    assert peak - before < most_mib * 2**20, f"{(peak - before) / 2**20:.0f} MiB more"


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
