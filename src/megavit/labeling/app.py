"""Define the routes of the labeling page."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from megavit.data.sources.label_log import Status
from megavit.errors import ConfigError, DataError, ImageError, OutputError
from megavit.labeling.session import LabelingSession
from megavit.labeling.store import StaleError
from megavit.page import static_folder
from megavit.serving.errors import ApiError
from megavit.serving.http.middleware import error_response
from megavit.serving.http.page_files import add_page

MAX_QUEUE = 1_000
"""Maximum number of images that are offered at once."""

MAX_MINUTES = 7 * 24 * 60
# That of the report's own page, which has no script.
_REPORT_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; sandbox"
    )
}

_Text = Annotated[str, Field(max_length=200)]
_StrokeId = Annotated[str, Field(pattern="^[0-9a-f-]{8,64}$")]
# A thumbnail's address has the version of its file.
_IMAGE_HEADERS = {"cache-control": "private, max-age=3600"}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    generation: _Text = ""
    since: Annotated[int, Field(ge=0)] = 0


class ImageMark(BaseModel):
    """An image of a stroke: the decision that the page has seen on it, and what it had suggested."""

    model_config = ConfigDict(extra="forbid")

    image: Annotated[int, Field(ge=0)]
    seen: _Text = ""
    suggested: _Text = ""
    probability: _Text = ""


class Stroke(_Body):
    """A decision on some images."""

    stroke: _StrokeId
    status: Status
    labels: Annotated[list[_Text], Field(max_length=100)] = []
    marks: Annotated[list[ImageMark], Field(min_length=1, max_length=100_000)]


class TrainingRequest(BaseModel):
    """The minutes of a training."""

    model_config = ConfigDict(extra="forbid")

    minutes: Annotated[float, Field(gt=0, le=MAX_MINUTES)]


class Undo(_Body):
    """The undoing of an earlier stroke."""

    stroke: _StrokeId
    undone: _StrokeId


def make_app(session: LabelingSession) -> FastAPI:
    """Return the application, without access control."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _handle_errors(app)
    count = len(session.images.names)

    def check(index: int) -> int:
        if not 0 <= index < count:
            raise ApiError(404, "there is no such image; load the page again")
        return index

    def respond(body: _Body) -> Response:
        return JSONResponse(session.changes(body.generation, body.since))

    @app.get("/api/session")
    def describe() -> Response:
        return JSONResponse(session.describe())

    @app.get("/api/changes")
    def changes(generation: _Text = "", since: int = 0) -> Response:
        return JSONResponse(session.changes(generation, since))

    @app.get("/api/queue")
    def queue(count: Annotated[int, Query(ge=1, le=MAX_QUEUE)]) -> Response:
        return JSONResponse({"images": session.queue(count)})

    @app.get("/api/suggestions")
    def suggestions(images: Annotated[str, Query(pattern="^[0-9]+(,[0-9]+)*$", max_length=8_000)]) -> Response:
        indices = [check(int(index)) for index in images.split(",")]
        return JSONResponse({"images": session.suggestions(indices)})

    @app.get("/api/similar/{index}")
    def similar(index: int, count: Annotated[int, Query(ge=1, le=MAX_QUEUE)]) -> Response:
        return JSONResponse({"images": session.similar(check(index), count)})

    @app.post("/api/strokes")
    def label(stroke: Stroke) -> Response:
        for mark in stroke.marks:
            check(mark.image)
        session.label(stroke.stroke, stroke.status, stroke.labels, [mark.model_dump() for mark in stroke.marks])
        return respond(stroke)

    @app.post("/api/undo")
    def undo(body: Undo) -> Response:
        session.undo(body.stroke, body.undone)
        return respond(body)

    @app.post("/api/training")
    def train(body: TrainingRequest) -> Response:
        session.training.start(body.minutes)
        return JSONResponse(session.training.describe())

    @app.get("/api/training")
    def training() -> Response:
        return JSONResponse(session.training.describe())

    @app.post("/api/check")
    def start_check() -> Response:
        session.check.start()
        return JSONResponse(session.check.describe())

    @app.get("/api/check")
    def check_state() -> Response:
        return JSONResponse(session.check.describe() | {"findings": session.findings()})

    @app.get("/report")
    def report() -> Response:
        return HTMLResponse(session.training.read_report(), headers=_REPORT_HEADERS)

    @app.get("/thumbnails/{index}")
    def thumbnail(index: int) -> Response:
        return Response(session.thumbnails.read(check(index)), media_type="image/jpeg", headers=_IMAGE_HEADERS)

    @app.get("/previews/{index}")
    def preview(index: int) -> Response:
        return Response(session.thumbnails.preview(check(index)), media_type="image/jpeg", headers=_IMAGE_HEADERS)

    add_page(app, static_folder(), Path(__file__).with_name("static"))
    return app


def _handle_errors(app: FastAPI) -> None:
    async def respond(_request: Request, error: Exception) -> Response:
        return error_response(_to_api_error(error))

    kinds: tuple[Any, ...] = (ApiError, ConfigError, DataError, OutputError, StaleError)
    for kind in (*kinds, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, respond)


def _to_api_error(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case StaleError():
            return ApiError(409, f"{error}; the page shows their labels now: decide again")
        case ImageError():
            return ApiError(422, f"the image cannot be shown: {error.reason}")
        case ConfigError() | DataError():
            return ApiError(422, str(error))
        case OutputError():
            return ApiError(500, str(error))
        case RequestValidationError():
            first = error.errors()[0]
            return ApiError(422, f"invalid {'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}")
        case HTTPException(status_code=405, headers=headers):
            return ApiError(405, "this path does not support this method", allow=(headers or {}).get("Allow"))
        case HTTPException(status_code=404):
            return ApiError(404, "there is nothing at this path")
        case HTTPException():
            return ApiError(error.status_code, error.detail)
    raise error
