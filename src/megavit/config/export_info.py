"""The metadata of an exported model: the meaning of its inputs and outputs."""

from dataclasses import dataclass, field
from typing import Literal

from megavit.config.checks import check_integer
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import TargetKind
from megavit.errors import ConfigError

EXPORT_FORMAT = 1
METADATA = "megavit"
"""The key of this metadata in the file, as JSON."""

PIXELS, IMAGES, PROBABILITIES, SCORE, EMBEDDING, DISTANCE = (
    "pixels",
    "images",
    "probabilities",
    "score",
    "embedding",
    "distance",
)
"""Names of inputs: uint8 (B, height, width, channels) of any size, float32 (B, C, height, width) prepared; and of
outputs: (B, classes); (B,); (B, D); (B,)."""

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""The ones that an exported model has, as far as the validation images allow."""

InputKind = Literal["pixels", "images"]
ExportPrecision = Literal["float32", "float16", "bfloat16", "int8"]


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """The metadata of an exported model, stored in it as JSON.

    Attributes:
        format: version; newer ones than `EXPORT_FORMAT` are refused.
        name: of the bundle.
        created: when the bundle was made, ISO 8601, UTC.
        target: kind of target.
        labels: name of each class or label, in the order of `probabilities`; none for regression.
        thresholds: of "multilabel", the probability from which on each is assigned.
        ood_threshold: an image whose `distance` is above this is out of distribution; None: unknown.
        sets: by coverage, such as "0.95": for each class the mass of likelier classes up to which it is in the set.
        intervals: by coverage, how far the true score is from the predicted one at most.
        input: "pixels" of any size, prepared by the model itself, or "images" that were prepared as `preprocessing`
            says.
        channels: of the input; models of gray take RGB pixels, too.
        height, width: of what the model sees, in pixels.
        preprocessing: what becomes of the pixels, within the model or before it.
        precision: of its matrix products, or of its weights.
        recorded: whether `megavit-export.json` lies beside it, with the files' SHA-256.
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

    def __post_init__(self) -> None:
        check_integer("format", self.format, minimum=1)
        size, gray = self.preprocessing, self.preprocessing.channels == 1 and self.input == PIXELS
        if (self.height, self.width) != (size.height, size.width) or self.channels != (3 if gray else size.channels):
            raise ConfigError("height, width and channels must be those of preprocessing (3 for pixels of gray)")
        count = len(self.labels)
        if len(set(self.labels)) != count or (self.target == "regression" and count):
            raise ConfigError("labels must be different from each other, and regression has none")
        if len(self.thresholds) != (count if self.target == "multilabel" else 0):
            raise ConfigError(f"thresholds must be one for each of {count} labels, and none for another target")
        for coverage, limits in {**(self.sets or {}), **(self.intervals or {})}.items():
            if coverage not in map(str, COVERAGES):
                raise ConfigError(f"sets and intervals are of the coverages {COVERAGES}, got {coverage!r}")
            if isinstance(limits, list) and len(limits) != count:
                raise ConfigError(f"sets must have one limit for each of {count} labels, got {len(limits)}")
