"""A server in a thread of this process: the real one, on loopback."""

import asyncio
import socket
import threading
from pathlib import Path

import httpx
import pytest

import megavit
from megavit.errors import BundleError, ConfigError
from tests.api.test_functions import bytes_of_a_digit
from tests.helpers.bundles import make_bundle


def test_a_server_in_the_background_answers_until_it_is_closed(
    run: megavit.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    ready = []
    with megavit.serve(
        {"digits": run}, port=0, background=True, on_ready=lambda url, names: ready.append((url, names))
    ) as server:
        assert ready == [(server.url, ["digits"])]
        assert server.url in repr(server)
        reply = httpx.post(f"{server.url}/models/digits/predict", files={"image": ("0.png", bytes_of_a_digit())})
        assert reply.status_code == 200, reply.text
        assert reply.json()["predictions"][0]["label"] == run.load().predict(bytes_of_a_digit()).label
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)
    assert not [thread for thread in threading.enumerate() if thread.name == "megavit-serve"]
    server.close()  # once more does no harm
    assert "closed" in repr(server)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cannot_be_served_and_a_port_that_is_taken_are_errors(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot listen"):
        megavit.serve(tmp_path / "bundle", port=taken.getsockname()[1], background=True)
    (tmp_path / "bundle" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        megavit.serve([tmp_path / "bundle"], port=0, background=True)
    with pytest.raises(BundleError, match="is not a bundle"):
        megavit.serve(tmp_path / "nothing", port=0, background=True)


def test_a_server_that_would_block_an_event_loop_is_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")

    async def serve() -> None:
        megavit.serve(tmp_path / "bundle", port=0)

    with pytest.raises(ConfigError, match="background=True"):
        asyncio.run(serve())


def test_python_ends_though_a_server_was_left_open(tmp_path: Path) -> None:
    import subprocess
    import sys

    make_bundle(tmp_path / "bundle")
    script = f"import megavit\nprint(megavit.serve({str(tmp_path / 'bundle')!r}, port=0, background=True).url)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("http://127.0.0.1:"), done.stderr
