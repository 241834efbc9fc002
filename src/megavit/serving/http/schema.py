"""The schema of the API in `GET /openapi.json`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from megavit.config.target import TargetKind
from megavit.serving.settings import DEFAULT_TOP, MAX_TOP


class PredictQuery(BaseModel):
    """The query of `POST /predict`; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    top: int = Field(DEFAULT_TOP, ge=1, le=MAX_TOP, description="Number of most probable classes to return.")
    coverage: float | None = Field(
        None,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Also return prediction sets (or intervals) with this coverage, e.g. 0.95.",
    )
    embedding: bool = Field(False, description="Also return the embedding.")
    explanation: bool = Field(False, description="Also return a heat map of what the prediction is based on.")


class RankedLabel(BaseModel):
    label: str
    probability: float = Field(ge=0, le=1)


class Prediction(BaseModel):
    """The prediction for one image, or an `error` for one of several that cannot be read.

    Classification: `label`, `probability`, `top`; multilabel: `labels`, `top`; regression: `score`.
    """

    filename: str | None
    label: str | None = None
    probability: float | None = Field(None, ge=0, le=1)
    top: list[RankedLabel] | None = None
    labels: list[RankedLabel] | None = None
    score: float | None = None
    prediction_set: list[RankedLabel] | None = None
    interval: tuple[float, float] | None = None
    out_of_distribution: bool | None = None
    embedding: list[float] | None = None
    explanation: str | None = Field(None, description="PNG in base64.")
    error: str | None = None


class Predictions(BaseModel):
    """The predictions in the order of the images."""

    model: str
    predictions: list[Prediction]


class ModelInfo(BaseModel):
    name: str
    target: TargetKind
    labels: list[str]
    height: int
    width: int
    channels: int
    coverages: list[float] = Field(description="Coverages that are available, for example; empty if none is.")
    explanation: bool = Field(description="Whether explanations are available.")
    created: str
    ready: bool


class Models(BaseModel):
    models: list[ModelInfo]


class Health(BaseModel):
    status: Literal["live", "ready"]


class ErrorDetail(BaseModel):
    code: str = Field(description="HTTP's name for the status.")
    message: str = Field(description="What is wrong and what to do.")


class Error(BaseModel):
    error: ErrorDetail


_REASONS = {
    400: "The request is malformed.",
    401: "The key is missing or wrong.",
    403: "The request comes from a page of another site.",
    404: "There is no such model.",
    408: "The request arrived too slowly.",
    413: "The request is too large.",
    421: "The Host header is not this server's.",
    422: "A parameter is invalid, or the only image cannot be read.",
    429: "The queue is full.",
    500: "The image crashed the worker process twice.",
    503: "The model is not ready, or the server is shutting down.",
    504: "The prediction was not ready in time.",
}
_RETRY_AFTER = {
    "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}, "required": True}}
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of an operation in FastAPI's format."""
    return {
        status: {"model": Error, "description": _REASONS[status]} | (_RETRY_AFTER if status in (429, 503) else {})
        for status in statuses
    }


_FORM = {
    "schema": {
        "type": "object",
        "properties": {
            "images": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "contentMediaType": "application/octet-stream"},
            }
        },
        "required": ["images"],
    },
    "encoding": {"images": {"contentType": "image/*, application/octet-stream"}},
}
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one image, or several images as the files of a form.",
        "content": {"multipart/form-data": _FORM}
        | {kind: {"schema": {"type": "string", "contentMediaType": kind}} for kind in _IMAGE_TYPES},
    }
}
"""Body of a prediction request, which FastAPI does not read."""
