"""Workers that die, hang, or are replaced, while requests wait for them."""

import asyncio
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from megavit.runtime.processors import available_cpus
from megavit.serving.workers.model_service import BATCHES_AHEAD
from tests.helpers.servers import Running, stub_server
from tests.serving.conftest import stub_folder


def post_all(server: Running, bodies: list[bytes]) -> list[httpx.Response]:
    """Of requests that are sent together."""

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.address, timeout=60) as client:
            return list(await asyncio.gather(*(client.post("/predict", content=body) for body in bodies)))

    return asyncio.run(ask())


def test_a_killed_worker_costs_no_request(folder: Path) -> None:
    with stub_server(folder, timeout=20) as server, ThreadPoolExecutor() as pool:
        for _ in range(3):
            (worker,) = server.workers()
            waiting = pool.submit(post_all, server, [b"sleep 0.05"] * 20)
            server.until(lambda: server.metric("megavit_images_in_progress", model="stub") > 5)
            worker.send_signal(signal.SIGKILL)
            assert [reply.status_code for reply in waiting.result()] == [200] * 20
        assert server.metric("megavit_worker_restarts_total", model="stub") == 3
        assert server.get("/health/ready").status_code == 200


def test_a_worker_has_only_as_many_images_as_keep_it_busy_and_all_are_answered_in_the_end(folder: Path) -> None:
    most = BATCHES_AHEAD * max(2, available_cpus())
    with stub_server(folder, timeout=30, max_batch_size=2) as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(post_all, server, [b"sleep 0.05"] * (most + 20))
        server.until(lambda: server.metric("megavit_images_in_progress", model="stub") > most + 10)
        server.workers()[0].send_signal(signal.SIGKILL)
        assert {reply.status_code for reply in waiting.result()} == {200}
        assert server.events("worker_exited")[0]["images"] == most


def test_an_idle_worker_that_is_killed_is_replaced_and_the_next_request_answered(folder: Path) -> None:
    with stub_server(folder) as server:
        server.workers()[0].send_signal(signal.SIGKILL)
        server.until(lambda: server.events("worker_exited"))
        assert server.post(b"image").status_code == 200
        assert server.events("worker_exited")[0]["reason"] == "signal 9"


@pytest.mark.parametrize("poison", [b"die", b"die decoding"])
def test_an_image_that_crashes_workers_is_found_and_all_others_are_answered(folder: Path, poison: bytes) -> None:
    with stub_server(folder) as server:
        replies = post_all(server, [b"sleep 0.05"] * 5 + [poison] + [b"image"] * 5)
        assert [reply.status_code for reply in replies] == [200] * 5 + [500] + [200] * 5
        assert replies[5].json()["error"]["code"] == "internal_server_error"
        assert server.metric("megavit_images_total", model="stub", outcome="failed") == 1
        assert server.post(b"image").status_code == 200


def test_among_several_images_the_one_that_ends_workers_fails_alone(folder: Path) -> None:
    with stub_server(folder) as server, server.client() as client:
        files = [("images", (name, body)) for name, body in [("a", b"image"), ("b", b"die"), ("c", b"image")]]
        reply = client.post("/predict", files=files)
        assert reply.status_code == 200
        assert [answer.get("label") for answer in reply.json()["predictions"]] == ["cat", None, "cat"]
        assert "crashed the worker process twice" in reply.json()["predictions"][1]["error"]


@pytest.mark.parametrize("hanging", [b"hang", b"hang decoding"])
def test_a_hanging_worker_is_replaced(folder: Path, hanging: bytes) -> None:
    with stub_server(folder, timeout=1) as server:
        assert server.post(hanging).status_code == 504
        server.until(lambda: server.events("worker_unresponsive"))
        server.until(lambda: server.get("/health/ready").status_code == 200 and len(server.events("model_ready")) == 2)
        assert server.post(b"image").status_code == 200


def test_canceled_images_are_not_computed(folder: Path) -> None:
    with stub_server(folder, timeout=2, max_batch_size=1) as server:
        replies = post_all(server, [b"sleep 1.2"] * 10)
        assert {reply.status_code for reply in replies} == {200, 504}
        server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 0)
        done = [server.metric("megavit_images_total", model="stub", outcome=o) for o in ("predicted", "canceled")]
        assert sum(done) == 10
        assert done[1] >= 8
        assert not server.events("worker_unresponsive")


def test_a_client_that_goes_is_no_error_and_frees_its_place(folder: Path) -> None:
    with stub_server(folder, queue_size=2) as server:
        for _ in range(3):
            with server.raw() as connection:
                connection.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\n\r\nsleep 2")
                server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 1)
            server.until(lambda: server.metric("megavit_images_in_progress", model="stub") == 0)
        assert server.post(b"image").status_code == 200
        assert server.metric("megavit_images_total", model="stub", outcome="canceled") == 3
        server.until(lambda: len([line for line in server.events("request") if line.get("disconnected")]) == 3)
        assert not server.events("error")


def test_a_new_bundle_takes_over_without_a_failure(folder: Path) -> None:
    seen: list[list[str]] = [[], [], []]
    with stub_server(folder) as server, ThreadPoolExecutor() as pool:
        over = threading.Event()

        def ask(labels: list[str]) -> None:
            with server.client() as client:
                while not over.is_set():
                    reply = client.post("/predict", content=b"version")
                    assert reply.status_code == 200
                    labels.append(reply.json()["predictions"][0]["label"])

        asking: list[Future[None]] = [pool.submit(ask, labels) for labels in seen]
        try:
            server.until(lambda: all(seen))
            for version in ("2", "3"):
                stub_folder(folder, version=version)
                server.until(lambda version=version: all(labels[-1] == version for labels in seen))
        finally:
            over.set()
        for one, labels in zip(asking, seen, strict=True):
            one.result()
            assert labels == sorted(labels)
            assert set(labels) == {"1", "2", "3"}
        server.until(lambda: len(server.events("model_reloaded")) == 2)
        server.until(lambda: len(server.workers()) == 1)
        assert server.metric("megavit_reloads_total", model="stub", outcome="succeeded") == 2
        assert server.metric("megavit_worker_restarts_total", model="stub") == 0


@pytest.mark.parametrize("config", [{"refused": "the weights are damaged"}, {"dies": "yes"}])
def test_a_new_bundle_that_cannot_be_served_leaves_the_old_one(folder: Path, config: dict[str, str]) -> None:
    with stub_server(folder) as server:
        stub_folder(folder, **config)
        server.until(lambda: server.events("reload_failed"))
        assert (
            config.get("refused", "exited before it was ready: signal 9") in server.events("reload_failed")[0]["error"]
        )
        assert server.metric("megavit_reloads_total", model="stub", outcome="failed") == 1
        assert server.post(b"version").json()["predictions"][0]["label"] == "1"
        stub_folder(folder, version="2")
        server.until(lambda: server.events("model_reloaded"))
        assert server.post(b"version").json()["predictions"][0]["label"] == "2"


def test_a_worker_that_does_not_restart_is_retried_and_the_server_reports_not_ready(folder: Path) -> None:
    with stub_server(folder) as server:
        (folder / "megavit.json").write_text('{"dies": "yes"}')
        server.workers()[0].send_signal(signal.SIGKILL)
        server.until(lambda: len(server.events("worker_start_failed")) >= 2)
        assert server.get("/health/ready").status_code == 503
        assert server.get("/health/live").status_code == 200
        reply = server.post(b"image")
        assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
        stub_folder(folder)
        server.until(lambda: server.get("/health/ready").status_code == 200)
        assert server.post(b"image").status_code == 200


def test_a_killed_server_leaves_no_worker(folder: Path) -> None:
    with stub_server(folder) as server:
        server.process.kill()
        server.process.wait()  # what comes after the `with` waits for its workers' end


def test_what_a_worker_prints_is_neither_a_result_nor_logged(folder: Path) -> None:
    with stub_server(folder) as server:
        assert server.post(b"print secret").status_code == 200
        assert server.post(b"die decoding").status_code == 500
        server.until(lambda: server.events("worker_exited"))
        why = [line["reason"] for line in server.events("worker_exited")]
        assert all("Segmentation fault" in one for one in why), why
        assert "secret" not in str(server.log)


def test_an_output_that_is_not_finite_is_an_error(stub: Running) -> None:
    reply = stub.post(b"nan")
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_server_error")
    assert "not a finite number" in reply.json()["error"]["message"]
