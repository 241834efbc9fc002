"""Shutting the server down."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from megavit.cli.app import run
from tests.helpers.servers import Running, stub_server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_accepted_requests_are_answered_and_later_ones_refused(folder: Path, number: signal.Signals) -> None:
    with stub_server(folder, max_batch_size=1) as server, ThreadPoolExecutor() as pool:
        accepted = [pool.submit(server.post, b"sleep 0.2") for _ in range(10)]
        server.until(lambda: server.metric("megavit_images_in_progress", model="stub") >= 5)
        server.process.send_signal(number)
        server.until(lambda: server.events("draining"))
        late = server.post(b"image")
        assert (late.status_code, late.headers["connection"]) == (503, "close")
        assert int(late.headers["retry-after"]) >= 1
        assert server.get("/health/ready").status_code == 503
        assert server.get("/health/live").status_code == 200
        done = [one.result().status_code for one in accepted]
        assert set(done) <= {200, 503}
        assert done.count(200) >= 5
        assert server.process.wait(30) == 0
        assert not server.events("error")


def test_under_load_every_request_is_answered_or_refused(folder: Path) -> None:
    with stub_server(folder) as server:
        lost: list[Exception] = []
        statuses: list[int] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                try:
                    with server.client() as client:
                        statuses.append(client.post("/predict", content=b"sleep 0.01").status_code)
                except httpx.ConnectError:  # it listens no more
                    return
                except httpx.HTTPError as error:
                    lost.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        server.until(lambda: statuses.count(200) > 10)
        assert server.stop() == 0
        over.set()
        for thread in threads:
            thread.join()
        assert lost == []
        assert set(statuses) <= {200, 503}


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    with stub_server(folder) as server, ThreadPoolExecutor() as pool:
        lost = pool.submit(server.post, b"hang")
        server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 1)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: server.events("draining"))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 128 + signal.SIGTERM
        assert isinstance(lost.exception(), httpx.HTTPError)


def test_a_request_that_takes_too_long_does_not_keep_the_server(folder: Path) -> None:
    with stub_server(folder, timeout=1) as server, ThreadPoolExecutor() as pool:
        hanging = pool.submit(server.post, b"hang")
        server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 1)
        assert server.stop() == 0
        assert hanging.result().status_code == 504


def test_a_bundle_that_cannot_be_served_ends_it_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "megavit.json").write_text("{}")
    command = [sys.executable, "-m", "megavit", "serve", "broken", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "is damaged" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_bundle_and_a_port_in_use_are_errors(
    stub: Running, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "nowhere"]) == 2
    assert "nowhere is not a bundle" in capsys.readouterr().err
    assert run(["serve", str(folder), "--port", str(stub.port)]) == 2
    assert f"port {stub.port}: Address already in use" in capsys.readouterr().err


def test_a_server_ends_in_order_while_a_worker_comes_up(folder: Path) -> None:
    with stub_server(folder) as server:
        server.workers()[0].kill()
        server.until(lambda: server.events("worker_exited"))
        assert server.stop() == 0  # and no word on standard error that is no line of the log
