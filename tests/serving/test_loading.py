"""Bundles that never finish loading: what is served goes on, and what comes after them is found."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.servers import ROOT, Running, is_alive, stub_server, wait_until
from tests.serving.conftest import stub_folder


def version(server: Running) -> str:
    return server.post(b"version").json()["predictions"][0]["label"]


def test_the_old_bundle_is_served_until_the_next_one_has_loaded(folder: Path) -> None:
    with stub_server(folder, load_timeout=30) as server:
        stub_folder(folder, hangs="yes")
        server.until(lambda: len(server.workers()) == 2)
        assert version(server) == "1"
        stub_folder(folder, version="2")
        server.until(lambda: server.events("model_reloaded"))
        assert version(server) == "2"
        server.until(lambda: len(server.workers()) == 1)


def test_a_bundle_that_is_not_loaded_in_time_is_refused(folder: Path) -> None:
    with stub_server(folder, load_timeout=8) as server:
        stub_folder(folder, stops="yes")
        server.until(lambda: server.events("reload_failed"))
        assert "was not loaded within 8 seconds" in server.events("reload_failed")[0]["error"]
        assert version(server) == "1"
        server.until(lambda: len(server.workers()) == 1)


def test_a_worker_that_dies_beside_one_that_never_loads_is_replaced_once_the_bundle_is_back(folder: Path) -> None:
    with stub_server(folder, load_timeout=60, timeout=1) as server:
        (old,) = server.workers()
        stub_folder(folder, stops="yes")
        server.until(lambda: len(server.workers()) == 2)
        old.kill()
        server.until(lambda: server.events("worker_exited"))
        assert server.post(b"image").status_code in (503, 504)
        stub_folder(folder, version="2")
        server.until(lambda: server.get("/health/ready").status_code == 200)
        assert version(server) == "2"


def test_of_bundles_that_are_replaced_all_the_time_one_is_loaded(folder: Path) -> None:
    with stub_server(folder, load_timeout=30) as server:
        for turn in range(600):
            stub_folder(folder, version=f"turn {turn}", takes="0.8")
            try:
                wait_until(lambda: server.events("model_reloaded"), patience=0.3)
                break
            except AssertionError:
                continue
        assert server.events("model_reloaded")


def test_a_server_that_has_nothing_to_serve_in_time_ends_with_the_reason(tmp_path: Path) -> None:
    code = (
        "from megavit.serving.server import serve; from megavit.serving.settings import Settings\n"
        "from megavit.serving.model_sources import parse_sources; import sys\n"
        "settings = Settings(port=0, worker_module='tests.helpers.stub_worker', load_timeout=1)\n"
        "serve(parse_sources(sys.argv[1:]), settings, print)"
    )
    folder = stub_folder(tmp_path / "stub", stops="yes")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"megavit.errors.BundleError: {folder} was not loaded within 1 seconds"), done.stderr


@pytest.mark.parametrize(
    ("config", "number"),
    [({"hangs": "yes"}, signal.SIGKILL), ({"stops": "yes"}, signal.SIGKILL), ({"stops": "yes"}, signal.SIGTERM)],
)
def test_a_server_that_stops_while_a_worker_loads_leaves_none(
    folder: Path, config: dict[str, str], number: signal.Signals
) -> None:
    with stub_server(folder) as server:
        stub_folder(folder, **config)
        server.until(lambda: len(server.workers()) == 2)
        server.until(lambda: all(_is_settled(worker) for worker in server.workers()))
        workers = server.workers()
        os.kill(server.process.pid, number)
        assert server.process.wait(30) == (0 if number == signal.SIGTERM else -number)
        wait_until(lambda: not any(is_alive(worker) for worker in workers))


def _is_settled(worker: psutil.Process) -> bool:
    """Whether it has done with importing, and waits."""
    return worker.status() in (psutil.STATUS_STOPPED, psutil.STATUS_SLEEPING) and worker.cpu_percent(0.1) == 0
