"""The page for people, from memory: a few small files."""

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from megavit.page import files
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
    shown = _responses()

    async def index() -> Response:
        return _shown(shown, _FIRST)

    async def file(request: Request) -> Response:
        return _shown(shown, request.path_params["path"])

    app.add_api_route("/", index, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/page/{path:path}", file, methods=["GET", "HEAD"], include_in_schema=False)


def _shown(responses: dict[str, Response], name: str) -> Response:
    if name not in responses:
        raise Refusal(404, "there is nothing at this address")
    return responses[name]


def _responses() -> dict[str, Response]:
    """The answer for each, by its path below `/page/`."""
    folder = files()
    return {
        path.relative_to(folder).as_posix(): Response(
            path.read_bytes(), headers={"content-type": _kind(path)} | _HEADERS
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _kind(path: Path) -> str:
    kind = _KINDS.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
