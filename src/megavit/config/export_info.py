"""Describe the inputs and outputs of an exported model."""

from dataclasses import dataclass, field
from typing import Literal

from megavit.config.checks import check_integer
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import TargetKind
from megavit.errors import ConfigError

EXPORT_FORMAT = 1
METADATA = "megavit"  # key of the JSON metadata in the exported file
MODEL_FILES = ("model.onnx", "model.xml")  # names of the files that megavit itself can run

PIXELS, IMAGES, PROBABILITIES, SCORE, EMBEDDING, DISTANCE = (
    "pixels",
    "images",
    "probabilities",
    "score",
    "embedding",
    "distance",
)
"""Names of the inputs: uint8 pixels (B, height, width, channels) of any size, or preprocessed float32 images
(B, C, height, width); and of the outputs: (B, classes), (B,), (B, D) and (B,)."""

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Coverages offered by an exported model, as far as there are enough validation images."""

InputKind = Literal["pixels", "images"]
ExportPrecision = Literal["float32", "float16", "bfloat16", "int8"]


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """The metadata of an exported model, stored in it as JSON.

    Attributes:
        format: format version; versions newer than `EXPORT_FORMAT` are refused.
        name: name of the bundle.
        created: creation time of the bundle, ISO 8601, UTC.
        target: kind of target.
        labels: names of the classes or labels, in the order of `probabilities`; empty for regression.
        thresholds: probability from which each label is assigned, for "multilabel".
        ood_threshold: `distance` above which an image is out of distribution; None if unknown.
        sets: for each coverage, such as "0.95", and each class, the cumulative probability of likelier classes up to
            which the class is in the prediction set.
        intervals: for each coverage, the half-width of the prediction interval around the score.
        input: "pixels" of any size, preprocessed by the model itself, or "images" preprocessed by the caller.
        channels: channels of the input; 3 for pixels of a gray model, which takes RGB.
        height, width: size of the model's input in pixels.
        preprocessing: preprocessing of the pixels, within the model or before it.
        precision: precision of the matrix products or the weights.
        recorded: whether `megavit-export.json`, with the SHA-256 of the files, is in the same folder.
        unverified: why the outputs have not been compared in the model's own runtime; "" if they have.
    """

    format: int = EXPORT_FORMAT
    name: str
    created: str
    target: TargetKind
    labels: list[str]
    thresholds: list[float] = field(default_factory=list)
    ood_threshold: float | None = None
    sets: dict[str, list[float]] | None = None
    intervals: dict[str, float] | None = None
    input: InputKind = "pixels"
    channels: int
    height: int
    width: int
    preprocessing: Preprocessing
    precision: ExportPrecision = "float32"
    recorded: bool = False
    unverified: str = ""

    def __post_init__(self) -> None:
        check_integer("format", self.format, minimum=1)
        size, gray = self.preprocessing, self.preprocessing.channels == 1 and self.input == PIXELS
        if (self.height, self.width) != (size.height, size.width) or self.channels != (3 if gray else size.channels):
            raise ConfigError(
                "height, width and channels must equal those of preprocessing (3 for pixels of a gray model)"
            )
        count = len(self.labels)
        if len(set(self.labels)) != count or (self.target == "regression" and count):
            raise ConfigError("labels must be unique, and empty for regression")
        if len(self.thresholds) != (count if self.target == "multilabel" else 0):
            raise ConfigError(f"there must be one threshold for each of {count} labels, and none for other targets")
        for coverage, limits in {**(self.sets or {}), **(self.intervals or {})}.items():
            if coverage not in map(str, COVERAGES):
                raise ConfigError(f"sets and intervals must have coverages from {COVERAGES}, got {coverage!r}")
            if isinstance(limits, list) and len(limits) != count:
                raise ConfigError(f"sets must have one limit for each of {count} labels, got {len(limits)}")
