"""Broken and hostile images, sent to a server: each is answered or refused, and its worker lives on."""

import httpx
import pytest

from benchmarks.serving.client import multipart
from benchmarks.serving.hostile import hostile_images
from benchmarks.serving.mutations import mutate, real_images
from tests.helpers.servers import Running

IMAGES, SEED = 150, 30_000
LARGEST = 2 * 2**20


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    return {name: data for name, data in hostile_images().items() if len(data) < LARGEST}


def test_broken_images_bring_no_error_of_the_server(server: Running) -> None:
    before = {worker.pid for worker in server.workers()}
    real = real_images()
    with server.client() as client:
        statuses = [
            client.post("/models/animals/predict", content=mutate(real, SEED + place)).status_code
            for place in range(IMAGES)
        ]
        assert set(statuses) == {200, 422}
        assert all(client.post("/models/animals/predict", content=data).status_code == 200 for data in real[:9])
    assert {worker.pid for worker in server.workers()} == before


def test_hostile_images_bring_no_error_of_the_server(server: Running, hostile: dict[str, bytes]) -> None:
    before = {worker.pid for worker in server.workers()}
    with server.client() as client:
        for name, data in hostile.items():
            reply = client.post("/models/animals/predict", content=data)
            assert reply.status_code in (200, 422), name
            if reply.status_code == 422:
                assert reply.json()["error"]["message"], name
    assert {worker.pid for worker in server.workers()} == before


def test_one_hostile_image_in_a_form_leaves_the_others_alone(server: Running, hostile: dict[str, bytes]) -> None:
    good = real_images()[0]
    names = list(hostile)[::3]
    for name in names:
        body, kind = multipart([good, hostile[name], good])
        reply = httpx.post(
            f"{server.address}/models/animals/predict", content=body, headers={"content-type": kind}, timeout=60
        )
        assert reply.status_code == 200, name
        first, _, last = reply.json()["predictions"]
        assert first["label"] == last["label"], name
