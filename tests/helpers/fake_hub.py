"""A model hub on loopback that serves one folder, and a server that accepts and never answers."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from tests.helpers.backbones import COMMIT


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Let huggingface_hub, here and in processes that are started, use the hub at `address`, and an empty cache."""
    for name, value in {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(cache)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))


@contextmanager
def serve_hub(folder: Path, *, truncated: bool = False) -> Iterator[str]:
    """Serve the files of `folder` as those of any model; `truncated` ends the weights after 100 bytes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            files = sorted(path.name for path in folder.iterdir())
            name = self.path.partition("?")[0].rpartition("/")[2]
            headers: dict[str, str] = {"X-Repo-Commit": COMMIT}
            if self.path.startswith("/api/"):
                sizes = {file: (folder / file).stat().st_size for file in files}
                tree = [{"type": "file", "path": file, "size": sizes[file], "oid": file} for file in files]
                info = {"id": "timm/x", "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
                body = json.dumps(tree if "/tree/" in self.path else info).encode()
                headers["Content-Type"] = "application/json"
            elif name in files:
                body = (folder / name).read_bytes()
                headers["ETag"] = f'"{name}"'
            else:
                body = b""
            self.send_response(200 if body else 404)
            for header, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(header, value)
            self.end_headers()
            if with_body and truncated and name.endswith(".safetensors"):
                self.wfile.write(body[:100])
                self.close_connection = True
            elif with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serve_silence() -> Iterator[str]:
    """Accept connections, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_address() -> str:
    """Return the address of a port on which nothing listens."""
    with serve_silence() as address:
        return address
