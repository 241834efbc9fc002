"""A server of the standard library that serves the page and answers by the HTTP API, as a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from megavit.page import static_folder

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}

Reply = tuple[int, dict[str, str], Any]
"""Status, headers, and the body's JSON."""


@dataclass(frozen=True)
class Asked:
    """A request for an answer."""

    model: str
    query: dict[str, str]
    body: bytes
    key: str | None


def make_model_info(name: str = "flowers", **changes: Any) -> dict[str, Any]:
    """What GET /models says of a model."""
    return {
        "name": name,
        "target": "classification",
        "labels": ["daisy", "rose", "tulip"],
        "height": 32,
        "width": 32,
        "channels": 3,
        "coverages": [0.9, 0.95, 0.99],
        "explanation": True,
        "created": "2026-11-01T00:00:00+00:00",
        "ready": True,
    } | changes


def make_top(**shares: float) -> list[dict[str, Any]]:
    return [{"label": label, "probability": share} for label, share in shares.items()]


def make_prediction(**changes: Any) -> dict[str, Any]:
    """An answer of a model of classes."""
    top = make_top(rose=0.9312, tulip=0.0603, daisy=0.0085)
    return {
        "filename": None,
        "label": "rose",
        "probability": 0.9312,
        "top": top,
        "out_of_distribution": False,
    } | changes


def make_reply(answer: dict[str, Any]) -> Reply:
    return 200, {}, {"model": "flowers", "predictions": [answer]}


def make_refusal(status: int, message: str, **headers: str) -> Reply:
    return status, headers, {"error": {"code": "test", "message": message}}


@dataclass
class FakeServer:
    """What the server says; tests change it as they like."""

    models: list[dict[str, Any]] = field(default_factory=lambda: [make_model_info()])
    reply: Callable[[Asked], Reply] = lambda asked: make_reply(make_prediction())
    key: str | None = None
    asked: list[Asked] = field(default_factory=list)
    address: str = ""

    def on_get(self, path: str, key: str | None) -> Reply:
        if path != "/models":
            return make_refusal(404, "there is nothing here")
        return (200, {}, {"models": self.models}) if self.lets_in(key) else self.no_key()

    def on_post(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        return self.reply(asked) if self.lets_in(asked.key) else self.no_key()

    def lets_in(self, key: str | None) -> bool:
        return self.key is None or key == f"Bearer {self.key}"

    def no_key(self) -> Reply:
        return make_refusal(401, "this server asks for its API key")


@contextmanager
def serve_fake(fake: FakeServer | None, root: Path | None = None) -> Iterator[str]:
    """The address of a server on loopback: of the API with the page, or of the static folder `root`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            file = _file_of(path, root)
            if file is not None and file.is_file():
                self._send(200, {"Content-Type": TYPES[file.suffix]}, file.read_bytes())
            elif fake is None:
                self._send(404, {}, b"")
            else:
                self._send_json(fake.on_get(path, self.headers["Authorization"]))

        def do_POST(self) -> None:
            assert fake is not None
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            body = self.rfile.read(int(self.headers["Content-Length"]))
            _, _, model, verb = address.path.split("/")
            assert verb == "predict"
            self._send_json(fake.on_post(Asked(model, query, body, self.headers["Authorization"])))

        def _send_json(self, reply: Reply) -> None:
            status, headers, body = reply
            self._send(status, headers | {"Content-Type": "application/json"}, json.dumps(body).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            policy = {} if fake is None else {"Content-Security-Policy": POLICY}
            for name, value in (headers | policy | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A browser that hangs up is no error."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _file_of(path: str, root: Path | None) -> Path | None:
    if root is not None:
        return root / (path.removeprefix("/") or "index.html")
    if path == "/":
        return static_folder() / "index.html"
    return static_folder() / path.removeprefix("/page/") if path.startswith("/page/") else None
