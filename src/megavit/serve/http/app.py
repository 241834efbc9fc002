"""The addresses of the server."""

import asyncio
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi import Query as InQuery
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from megavit import __version__
from megavit.page import static_folder
from megavit.serve.errors import ApiError
from megavit.serve.http.middleware import refused
from megavit.serve.http.schema import IMAGES, Answers, Health, Models, Query, errors
from megavit.serve.metrics import Metrics
from megavit.serve.request_body import Body, Room, check_announced, read_images
from megavit.serve.settings import Options, Settings
from megavit.serve.workers.client import Image, Reply
from megavit.serve.workers.model_service import ModelService

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
        raise ApiError(404, "there is nothing at this address")
    return responses[name]


def _responses() -> dict[str, Response]:
    """The answer for each, by its path below `/page/`."""
    folder = static_folder()
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


_OF_PREDICT = errors(400, 401, 403, 404, 408, 413, 421, 422, 429, 500, 503, 504)


def make_app(models: Mapping[str, ModelService], settings: Settings, metrics: Metrics, room: Room) -> FastAPI:
    """The application, for a `Guard` to go around.

    Args:
        models: by name; the first is that of `POST /predict`.
    """
    # The pages that show an API, which FastAPI would add, load scripts from elsewhere.
    app = FastAPI(title="megavit", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)

    async def refuse(_request: Request, error: Exception) -> Response:
        refusal = _refusal_of(error)
        metrics.refusals.labels(refusal.kind).inc()
        return refused(refusal)

    for kind in (ApiError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, refuse)
    keyed: list[Any] = [] if settings.api_key is None else [_key_scheme()]

    async def answered(request: Request, model: ModelService, query: Query) -> Response:
        told = request.state.told
        told["model"] = model.name
        model.check()
        check_announced(request, settings, room)
        body = await read_images(request, settings, room)
        told["images"] = len(body.parts)
        images = model.submit([part.data for part in body.parts], Options(**query.model_dump()))
        try:
            replies = await _replies(request, images, settings.timeout)
        finally:
            for image in images:
                model.cancel(image)
        return _answer(model.name, body, replies)

    @app.post("/predict", response_model=Answers, responses=_OF_PREDICT, openapi_extra=IMAGES, dependencies=keyed)
    async def predict(request: Request, query: Annotated[Query, InQuery()]) -> Response:
        """What is in an image, or in each of several, by the first model."""
        return await answered(request, next(iter(models.values())), query)

    @app.post(
        "/models/{model}/predict",
        response_model=Answers,
        responses=_OF_PREDICT,
        openapi_extra=IMAGES,
        dependencies=keyed,
    )
    async def predict_by(request: Request, model: str, query: Annotated[Query, InQuery()]) -> Response:
        """What is in an image, or in each of several, by the model of that name."""
        if model not in models:
            raise ApiError(404, f"there is no such model here; there is {', '.join(models)}")
        return await answered(request, models[model], query)

    @app.get("/models", response_model=Models, responses=errors(401, 421, 503), dependencies=keyed)
    async def list_models() -> Response:
        """The models that are served, the first one of `POST /predict` first."""
        return JSONResponse({"models": [model.describe() for model in models.values()]})

    @app.get("/health/live", response_model=Health, responses=errors(421))
    async def live() -> Response:
        """Whether the server runs."""
        return JSONResponse({"status": "live"})

    @app.get("/health/ready", response_model=Health, responses=errors(421, 503))
    async def ready(request: Request) -> Response:
        """Whether every model answers, and the server is not about to end."""
        missing = [model.name for model in models.values() if not model.ready]
        if request.state.draining:
            raise ApiError(503, "the server is about to end", retry_after=2)
        if missing:
            raise ApiError(503, f"not ready: {', '.join(missing)}", retry_after=2)
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics",
        response_class=Response,
        responses=errors(401, 421, 503) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        dependencies=keyed,
    )
    async def show_metrics() -> Response:
        """Counts for Prometheus."""
        return Response(metrics.text(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    add_pages(app)
    return app


async def _replies(request: Request, images: list[Image], timeout: float) -> list[Reply]:
    """The reply to each image.

    Raises:
        ClientDisconnect: when the client goes before that.
        Refusal: when the time is over.
    """
    replies = [image.reply for image in images]
    everything = asyncio.ensure_future(asyncio.wait(replies))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({everything, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if everything.done():
            return [reply.result() for reply in replies]
        if gone.done():
            raise ClientDisconnect
        raise ApiError(504, f"there was no answer within {timeout:g} seconds; try again, or with fewer images")
    finally:
        gone.cancel()
        everything.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(model: str, body: Body, replies: list[Reply]) -> Response:
    """Put together from what the worker has made JSON already."""
    parts: list[bytes] = []
    for part, reply in zip(body.parts, replies, strict=True):
        if reply.outcome == "refused" or (reply.error is not None and not body.multipart):
            raise ApiError(500 if reply.outcome == "failed" else 422, reply.error or "")
        answer = reply.answer if reply.error is None else json.dumps({"error": reply.error}).encode()
        parts.append(b'{"name": ' + json.dumps(part.name).encode() + b", " + answer[1:])
    content = b'{"model": ' + json.dumps(model).encode() + b', "answers": [' + b", ".join(parts) + b"]}"
    return Response(content, media_type="application/json")


def _refusal_of(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"][1:])
            return ApiError(422, f"the parameter {name!r} of the query: {first['msg']}")
        case HTTPException(status_code=404):
            return ApiError(404, "there is nothing at this address")
        case HTTPException(status_code=405, headers=headers):
            return ApiError(405, "this address does not take this method", allow=(headers or {}).get("Allow"))
        case HTTPException():
            return ApiError(error.status_code, error.detail)
    raise error


def _key_scheme() -> Any:
    """Only to tell of the key in the schema: the `Guard` has looked at it."""
    from fastapi import Security

    return Security(HTTPBearer(auto_error=False, description="The value of MEGAVIT_API_KEY."))
