"""Define the routes of the server."""

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Request, Security
from fastapi import Query as QueryParameters
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from megavit import __version__
from megavit.page import static_folder
from megavit.serving.errors import ApiError
from megavit.serving.http.middleware import error_response
from megavit.serving.http.page_files import add_page
from megavit.serving.http.schema import REQUEST_BODY, Health, Models, Predictions, PredictQuery, error_responses
from megavit.serving.http.short_path import ShortPath
from megavit.serving.metrics import Metrics
from megavit.serving.request_body import ByteBudget, RequestBody, check_headers, read_body
from megavit.serving.settings import PredictOptions, Settings
from megavit.serving.workers.client import PendingImage
from megavit.serving.workers.model_service import ModelService
from megavit.serving.workers.protocol import Result

PREDICT = "/predict"


def make_app(models: Mapping[str, ModelService], settings: Settings, metrics: Metrics, budget: ByteBudget) -> ASGIApp:
    """Return the application without its middleware; `POST /predict` uses the first of `models`."""
    # FastAPI's documentation pages would load scripts from other sites.
    app = FastAPI(title="megavit", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)

    async def respond_to_error(_request: Request, error: Exception) -> Response:
        api_error = _to_api_error(error)
        metrics.errors.labels(api_error.code).inc()
        return error_response(api_error)

    for kind in (ApiError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, respond_to_error)
    # Only for the schema: the middleware checks the key.
    bearer = HTTPBearer(auto_error=False, description="The value of MEGAVIT_API_KEY.")
    protected: Any = {"dependencies": [] if settings.api_key is None else [Security(bearer)]}
    predicting: Any = protected | {
        "response_model": Predictions,
        "responses": error_responses(400, 401, 403, 404, 408, 413, 421, 422, 429, 500, 503, 504),
        "openapi_extra": REQUEST_BODY,
    }

    async def respond(request: Request, model: ModelService, query: PredictQuery) -> Response:
        log_fields = request.state.log_fields
        log_fields["model"] = model.name
        model.check()
        check_headers(request, settings, budget)
        body = await read_body(request, settings, budget)
        log_fields["images"] = len(body.images)
        images = model.submit([image.data for image in body.images], PredictOptions(**query.model_dump()))
        try:
            replies = await _wait_for_replies(request, images, settings.timeout)
        finally:
            for image in images:
                model.cancel(image)
        return _make_response(model.name, body, replies)

    @app.post(PREDICT, **predicting)
    async def predict(request: Request, query: Annotated[PredictQuery, QueryParameters()]) -> Response:
        """Predict one image, or each of several, with the first model."""
        return await respond(request, next(iter(models.values())), query)

    @app.post("/models/{model}/predict", **predicting)
    async def predict_with(request: Request, model: str, query: Annotated[PredictQuery, QueryParameters()]) -> Response:
        """Predict one image, or each of several, with the model of that name."""
        if model not in models:
            raise ApiError(404, f"there is no model with this name; choose one of {', '.join(models)}")
        return await respond(request, models[model], query)

    @app.get("/models", response_model=Models, responses=error_responses(401, 421, 503), **protected)
    async def list_models() -> Response:
        """List the models; the first one is that of `POST /predict`."""
        return JSONResponse({"models": [model.describe() for model in models.values()]})

    @app.get("/health/live", response_model=Health, responses=error_responses(421))
    async def live() -> Response:
        """Return whether the server runs."""
        return JSONResponse({"status": "live"})

    @app.get("/health/ready", response_model=Health, responses=error_responses(421, 503))
    async def ready(request: Request) -> Response:
        """Return whether all models are ready, and the server is not shutting down."""
        missing = [model.name for model in models.values() if not model.is_ready]
        if request.state.draining:
            raise ApiError(503, "the server is shutting down", retry_after=2)
        if missing:
            raise ApiError(503, f"not ready: {', '.join(missing)}", retry_after=2)
        return JSONResponse({"status": "ready"})

    text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", response_class=Response, responses=error_responses(401, 421, 503) | text, **protected)
    async def show_metrics() -> Response:
        """Return metrics for Prometheus."""
        return Response(metrics.render(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def predict_without_query(request: Request) -> Response:
        try:
            return await predict(request, no_query)
        except (ApiError, HTTPException) as error:
            return await respond_to_error(request, error)

    no_query = PredictQuery()
    (route,) = (route for route in app.routes if getattr(route, "path", None) == PREDICT)
    add_page(app, static_folder())
    return ShortPath(app, PREDICT, route, predict_without_query)


async def _wait_for_replies(request: Request, images: list[PendingImage], timeout: float) -> list[tuple[Result, bytes]]:
    """Return the result and the prediction for each image; raise ClientDisconnect, or an ApiError at the timeout."""
    loop = asyncio.get_running_loop()
    missing, settled = len(images), loop.create_future()

    def settle(_: object = None) -> None:
        if not settled.done():
            settled.set_result(None)

    def on_reply(_: object) -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            settle()

    for image in images:
        image.reply.add_done_callback(on_reply)
    disconnect, timer = asyncio.ensure_future(_wait_for_disconnect(request)), loop.call_later(timeout, settle)
    disconnect.add_done_callback(settle)
    try:
        await settled
        if not missing:
            return [image.reply.result() for image in images]
        if disconnect.done():
            raise ClientDisconnect
        raise ApiError(504, f"the prediction took more than {timeout:g} seconds; try again, or send fewer images")
    finally:
        timer.cancel()
        disconnect.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _make_response(model: str, body: RequestBody, replies: list[tuple[Result, bytes]]) -> Response:
    predictions: list[bytes] = []
    for image, (result, prediction) in zip(body.images, replies, strict=True):
        if result.outcome == "invalid_options" or (result.error is not None and not body.multipart):
            raise ApiError(500 if result.outcome == "failed" else 422, result.error or "")
        content = prediction if result.error is None else json.dumps({"error": result.error}).encode()
        predictions.append(b'{"filename": ' + json.dumps(image.filename).encode() + b", " + content[1:])
    content = b'{"model": ' + json.dumps(model).encode() + b', "predictions": [' + b", ".join(predictions) + b"]}"
    return Response(content, media_type="application/json")


def _to_api_error(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"][1:])
            return ApiError(422, f"invalid query parameter {name!r}: {first['msg']}")
        case HTTPException(status_code=404):
            return ApiError(404, "there is nothing at this path")
        case HTTPException(status_code=405, headers=headers):
            return ApiError(405, "this path does not support this method", allow=(headers or {}).get("Allow"))
        case HTTPException():
            return ApiError(error.status_code, error.detail)
    raise error
