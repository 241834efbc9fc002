"""What the server's answers look like, for `GET /openapi.json`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from megavit.serve.settings import DEFAULT_TOP, MOST_TOP

Share = Field(ge=0, le=1)


class Query(BaseModel):
    """Of `POST /predict`; a name that is none of these is refused."""

    model_config = ConfigDict(extra="forbid")

    top: int = Field(DEFAULT_TOP, ge=1, le=MOST_TOP, description="How many classes or labels to tell.")
    coverage: float | None = Field(
        None,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Such as 0.95: also tell the classes, or the range, that hold the truth so often.",
    )
    embedding: bool = Field(False, description="Also give the embedding.")
    explanation: bool = Field(False, description="Also give a picture of where the answer comes from.")


class Ranked(BaseModel):
    label: str
    probability: float = Share


class Answer(BaseModel):
    """Of one image. Classes: `label`, `probability`, `top`; labels: `labels`, `top`; a score: `score`. An image of
    several that cannot be answered has an `error` instead."""

    name: str | None = Field(description="Of the part's file.")
    label: str | None = None
    probability: float | None = Field(None, ge=0, le=1)
    top: list[Ranked] | None = None
    labels: list[Ranked] | None = None
    score: float | None = None
    prediction_set: list[Ranked] | None = None
    interval: tuple[float, float] | None = None
    out_of_distribution: bool | None = None
    embedding: list[float] | None = None
    overlay: str | None = Field(None, description="A PNG in base64.")
    error: str | None = None


class Answers(BaseModel):
    """In the order of the images."""

    model: str
    answers: list[Answer]


class ModelInfo(BaseModel):
    """Of one model that is served."""

    name: str
    target: Literal["classification", "multilabel", "regression"]
    labels: list[str]
    height: int
    width: int
    channels: int
    coverages: list[float] = Field(description="Some that sets or intervals can be asked for; none where none can.")
    explanation: bool = Field(description="Whether overlays can be asked for.")
    created: str
    ready: bool


class Models(BaseModel):
    models: list[ModelInfo]


class Health(BaseModel):
    status: Literal["live", "ready"]


class ErrorDetail(BaseModel):
    kind: str = Field(description="A word for machines.")
    message: str = Field(description="A sentence for people.")


class Error(BaseModel):
    error: ErrorDetail


_WHY = {
    400: "The request is malformed.",
    401: "The key is missing or wrong.",
    403: "A page of another site has sent it.",
    404: "There is no such model.",
    408: "The request came too slowly.",
    413: "The request is too large.",
    421: "The Host header is not this server's.",
    422: "A parameter is wrong, or the single image cannot be read.",
    429: "Too many images wait already.",
    500: "The image twice ended the process that answers.",
    503: "The model is not ready, or the server is about to end.",
    504: "There was no answer in time.",
}
_LATER = {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}, "required": True}}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer instead, as FastAPI takes it."""
    return {
        status: {"model": Error, "description": _WHY[status]} | (_LATER if status in (429, 503) else {})
        for status in statuses
    }


IMAGES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One image's bytes, or several images as the files of a form.",
        "content": {
            "multipart/form-data": {
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
            },
        }
        | {
            kind: {"schema": {"type": "string", "contentMediaType": kind}}
            for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
        },
    }
}
"""The body of a prediction, which is read without FastAPI."""
