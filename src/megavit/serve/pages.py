"""The page for people, from memory: a few small files."""

import importlib.util
import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from megavit.serve.refusal import Refusal

_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "camera=(self)",
}
_FIRST = "index.html"
# Not left to what the system's tables say: with nosniff, a script of any other type does not run.
_KINDS = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html"}


def add_pages(app: FastAPI) -> None:
    """`GET /`, and the files that it names."""
    files = _files()

    async def index() -> Response:
        return _shown(files, _FIRST)

    async def file(request: Request) -> Response:
        return _shown(files, request.path_params["path"])

    app.add_api_route("/", index, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/page/{path:path}", file, methods=["GET", "HEAD"], include_in_schema=False)


def _shown(files: dict[str, Response], name: str) -> Response:
    if name not in files:
        raise Refusal(404, "there is nothing at this address")
    return files[name]


def _files() -> dict[str, Response]:
    """The answer for each, by its path below `/page/`."""
    if importlib.util.find_spec("megavit.page") is None:
        return {}
    folder: Path = importlib.import_module("megavit.page").files()
    return {
        path.relative_to(folder).as_posix(): Response(
            path.read_bytes(), headers={"content-type": _kind(path)} | _HEADERS
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }


def _kind(path: Path) -> str:
    kind = _KINDS.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
