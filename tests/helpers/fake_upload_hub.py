"""A model hub on loopback that takes uploads, and serves what was uploaded."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.backbones import COMMIT

TOKEN = "hf_the_right_one"


@dataclass
class UploadHub:
    """The contents of the hub: files by the model's name, and which new models are private.

    Attributes:
        address: its address, once it runs.
        read_only: tokens that may not write.
        large: endings of files that are uploaded apart from the commit, as on the hub (Git LFS).
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    read_only: tuple[str, ...] = ()
    large: str = ".safetensors"

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return the status and the JSON, or bytes, that answers an authorized request."""
        path = path.partition("?")[0]
        match method, path.strip("/").split("/"):
            case "POST", ["api", "repos", "create"]:
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                if name not in self.files:
                    self.files[name], self.private[name] = {}, asked.get("visibility") == "private"
                    return 200, {"url": f"{self.address}/{name}"}
                return 409, {"error": "it exists", "url": f"{self.address}/{name}"}
            case "POST", ["api", "validate-yaml"]:
                return 200, {"errors": [], "warnings": []}
            case "POST", ["api", "models", user, name, "preupload", "main"] if f"{user}/{name}" in self.files:
                files = [file["path"] for file in json.loads(body)["files"]]
                modes = {True: "lfs", False: "regular"}
                described = [
                    {"path": one, "uploadMode": modes[one.endswith(self.large)], "shouldIgnore": False} for one in files
                ]
                return 200, {"files": described}
            case "POST", [_, _, "info", "lfs", "objects", "batch"]:
                objects = [
                    {**one, "actions": {"upload": {"href": f"{self.address}/objects/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]
                return 200, {"transfer": "basic", "objects": objects}
            case "PUT", ["objects", digest]:
                self.objects[digest] = body
                return 200, {}
            case "POST", ["api", "models", user, name, "commit", "main"]:
                self._commit(f"{user}/{name}", [json.loads(line) for line in body.splitlines()])
                return 200, {"commitUrl": f"{self.address}/{user}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
            case "GET", ["api", "models", user, name, *rest] if f"{user}/{name}" in self.files:
                files = self.files[f"{user}/{name}"]
                if "tree" in rest:
                    return 200, [
                        {"type": "file", "path": one, "size": len(files[one]), "oid": one} for one in sorted(files)
                    ]
                siblings = [{"rfilename": one} for one in sorted(files)]
                return 200, {"id": f"{user}/{name}", "sha": COMMIT, "siblings": siblings}
            case (("GET" | "HEAD"), [user, name, "resolve", _, file]) if file in self.files.get(f"{user}/{name}", {}):
                return 200, self.files[f"{user}/{name}"][file]
        return 404, {"error": "not found"}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[name][value["path"]] = self.objects[value["oid"]]


@contextmanager
def serve_upload_hub(hub: UploadHub) -> Iterator[UploadHub]:
    """Run `hub` on loopback; only requests with a known token may upload."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._read_chunks()
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            writes = self.command in ("POST", "PUT") and not self.path.startswith("/objects")
            if writes and token in hub.read_only:
                status, answer = 403, {"error": "this token may not write"}
            elif writes and token != TOKEN:
                status, answer = 401, {"error": "invalid token"}
            else:
                status, answer = hub.answer(self.command, self.path, body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            if isinstance(answer, bytes):
                self.send_header("ETag", f'"{self.path.rpartition("/")[2]}"')
            else:
                self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = _answer

        def _read_chunks(self) -> bytes:
            content = b""
            while size := int(self.rfile.readline().strip(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
