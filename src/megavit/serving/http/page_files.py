"""Serve the files of a page from memory, under a strict content policy."""

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from megavit.serving.errors import ApiError

_PAGE_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "camera=(self)",
}
# Independent of the system's tables: with nosniff, a script of another type does not run.
_CONTENT_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html"}


def add_page(app: FastAPI, *folders: Path) -> None:
    """Serve index.html at `/` and the other files of folders below `/page/`; a later folder's file replaces others."""
    responses: dict[str, Response] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                responses[path.relative_to(folder).as_posix()] = _read(path)

    async def page_file(request: Request) -> Response:
        try:
            return responses[request.path_params.get("path", "index.html")]
        except KeyError:
            raise ApiError(404, "there is nothing at this path") from None

    for route in ("/", "/page/{path:path}"):
        app.add_api_route(route, page_file, methods=["GET", "HEAD"], include_in_schema=False)


def _read(path: Path) -> Response:
    kind = _CONTENT_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers = {"content-type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind} | _PAGE_HEADERS
    return Response(path.read_bytes(), headers=headers)
