"""Keys, hosts, headers, the log and the counts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from megavit.serving.http.middleware import is_loopback
from tests.helpers.servers import Running, stub_server

KEY = "open sesame"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from tests.serving.conftest import stub_folder

    with stub_server(stub_folder(tmp_path_factory.mktemp("serve") / "stub"), api_key=KEY) as running:
        yield running


def test_the_key_opens(locked: Running) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    assert locked.post(b"image", headers=headers).status_code == 200
    assert locked.get("/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "given", [None, KEY, "Bearer", "Bearer open", "Basic open sesame", f"Bearer {KEY}x", "Bearer \xe9"]
)
@pytest.mark.parametrize("path", ["/predict", "/models/stub/predict", "/models", "/metrics", "/openapi.json", "/other"])
def test_without_the_key_there_is_nothing(locked: Running, path: str, given: str | None) -> None:
    headers: list[tuple[bytes, bytes]] = [] if given is None else [(b"authorization", given.encode("latin-1"))]
    with locked.client() as client:
        reply = client.request("POST" if path.endswith("predict") else "GET", path, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/", "/page/none.js"])
def test_health_and_the_page_need_no_key(locked: Running, path: str) -> None:
    assert locked.get(path).status_code in (200, 404)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:80", "[::1]:8000", "127.8.9.1"]
)
def test_on_loopback_its_names_are_answered(stub: Running, host: str) -> None:
    assert stub.get("/health/live", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "::"]
)
def test_on_loopback_another_sites_name_is_refused(stub: Running, host: str) -> None:
    for path in ("/health/live", "/", "/models"):
        reply = stub.get(path, headers={"host": host})
        assert (reply.status_code, reply.json()["error"]["code"]) == (421, "misdirected_request")


def test_loopback_is_distinguished_from_other_addresses() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))


def test_every_answer_has_its_headers(stub: Running) -> None:
    for reply in (stub.post(b"image"), stub.post(b"bad"), stub.get("/nowhere"), stub.get("/", headers={"host": "x"})):
        assert len(reply.headers["x-request-id"]) == 16
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"
        assert "server" not in reply.headers
        assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(("method", "path", "allowed"), [("GET", "/predict", "POST"), ("POST", "/models", "GET")])
def test_another_method_is_405_and_says_which_would_do(stub: Running, method: str, path: str, allowed: str) -> None:
    with stub.client() as client:
        reply = client.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)
    assert reply.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/predict/", "/models/", "/page/../../etc/passwd", "/page/%2e%2e/x"]
)
def test_an_unknown_path_is_404(stub: Running, path: str) -> None:
    reply = stub.get(path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


def test_the_log_has_each_request_but_not_its_content(folder: Path) -> None:
    with stub_server(folder, api_key=KEY) as server:
        headers = {"authorization": f"Bearer {KEY}"}
        files = [("images", ("secret name.png", b"secret content"))] * 2
        with server.client(headers=headers) as client:
            reply = client.post("/predict?top=7", files=files)
            client.get("/secret path?secret=query")
            client.post("/predict", content=b"die secret")
        server.until(lambda: len(server.events("request")) == 3)
        first, second, _ = server.events("request")
        assert first.pop("time").endswith("+00:00")
        assert first.pop("ms") >= 0
        assert first == {
            "event": "request",
            "request": reply.headers["x-request-id"],
            "method": "POST",
            "route": "/predict",
            "status": 200,
            "bytes": int(reply.request.headers["content-length"]),
            "model": "stub",
            "images": 2,
        }
        assert (second["route"], second["status"]) == ("unknown", 404)
        message = json.dumps(server.log)
        for secret in ("secret", KEY, "top=", "query"):
            assert secret not in message


def test_a_page_of_another_site_is_refused(folder: Path) -> None:
    with stub_server(folder) as server, server.client() as client:
        foreign = client.post("/predict", content=b"image", headers={"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403 and foreign.json()["error"]["code"] == "forbidden"
        assert client.post("/predict", content=b"image", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
        assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link to the page


def test_requests_images_and_batches_are_counted(folder: Path) -> None:
    with stub_server(folder) as server, server.client() as client:
        client.post("/predict", files=[("images", ("a", b"image"))] * 3 + [("images", ("b", b"bad"))])
        client.post("/models/stub/predict", content=b"bad")
        client.get("/this/is/one"), client.get("/of/many")
        client.request("PATCH", "/this/is/one")
        count = server.metric
        assert count("megavit_requests_total", route="/predict", method="POST", status="200") == 1
        assert count("megavit_requests_total", route="/models/{model}/predict", method="POST", status="422") == 1
        assert count("megavit_requests_total", route="unknown", method="any", status="404") == 3
        assert count("megavit_images_total", model="stub", outcome="predicted") == 3
        assert count("megavit_images_total", model="stub", outcome="invalid_image") == 2
        assert count("megavit_batch_size_count", model="stub") == 3
        assert count("megavit_request_duration_seconds_count", route="/predict") == 1
        assert count("megavit_images_in_progress", model="stub") == 0
        assert count("megavit_model_ready", model="stub") == 1
