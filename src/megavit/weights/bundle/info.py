"""The metadata of a bundle: the contents of `megavit.json`."""

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from megavit.config.calibration import Calibration
from megavit.config.checks import MAX_SIDE, MAX_WIDTH, check_range, is_number
from megavit.config.ensemble import Member
from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import MAX_FOLDS
from megavit.config.target import Target
from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError

FORMAT = 1


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that affect a model's outputs."""
    names = ("megavit", "torch", "torchvision", "pillow", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """The metadata of a bundle, stored in `megavit.json`.

    Attributes:
        format: version of the bundle format; those newer than `FORMAT` are rejected.
        model: config of the model.
        labels: name of each class or label, in the order of the logits; empty for regression.
        target: meaning of the logits; classification by default.
        preprocessing: preprocessing of the images.
        created: creation time, ISO 8601 in UTC.
        metrics: metrics on the test images, as a dict; {} if nothing was measured, as in a converted bundle.
        data: source, fingerprint, split and counts of the data; for a converted model the origin and license of its
            weights.
        recipe: recipe of the training, with every automatic choice filled in.
        versions: versions of the libraries that wrote the bundle.
        files: SHA-256 of every other file of the bundle.
        calibration: parameters that were fitted on the validation images to calibrate predictions.
        tuning: for a fine-tuned model, the initial weights with their origin and license, the metrics of each method,
            and the choice with its reason.
        ensemble: the models of an ensemble, which all have the config `model`; empty for a single model.
        int8: for a quantizable model, "bounds", the largest magnitude of each layer's inputs in the order of the graph,
            "measured", the accuracy cost found by `megavit.exporting.quantization`, and "speeds", with the "processor"
            that they were measured on.
        head_parts: for a model with added classes, the number of classes in each part of the head that is computed by
            itself, see `megavit.model.outputs.split_linear`; empty for one product.
        cosine_dim: width of the projection that the head compares with texts of classes, see
            `megavit.model.outputs.cosine_head`; 0 for a linear head.
    """

    format: int = FORMAT
    model: ViTConfig
    labels: list[str]
    preprocessing: Preprocessing
    created: str
    metrics: dict[str, Any]
    data: dict[str, Any]
    recipe: dict[str, Any]
    versions: dict[str, str] = field(default_factory=library_versions)
    files: dict[str, str] = field(default_factory=dict)
    target: Target = field(default_factory=Target)
    calibration: Calibration = field(default_factory=Calibration)
    tuning: dict[str, Any] = field(default_factory=dict)
    int8: dict[str, Any] = field(default_factory=dict)
    ensemble: list[Member] = field(default_factory=list)
    head_parts: list[int] = field(default_factory=list)
    cosine_dim: int = 0

    def __post_init__(self) -> None:
        if self.preprocessing.keep_aspect and self.preprocessing.patch_size != self.model.patch_size:
            raise ConfigError("preprocessing.patch_size must equal the model's if keep_aspect is set")
        self._check_sizes()
        if len(self.ensemble) == 1 or len(self.ensemble) > MAX_FOLDS:
            raise ConfigError(f"an ensemble must have from 2 to {MAX_FOLDS} models, got {len(self.ensemble)}")
        if self.head_parts and (self.ensemble or sum(self.head_parts) != self.model.num_classes):
            raise ConfigError(f"head_parts must add up to the {self.model.num_classes} classes of a single model")
        if any(rows < 1 for rows in self.head_parts):
            raise ConfigError("head_parts must be positive")
        check_range("cosine_dim", self.cosine_dim, 0, MAX_WIDTH)
        if self.cosine_dim and (self.ensemble or self.head_parts or not self.model.num_classes):
            raise ConfigError("cosine_dim is only for a single model with classes and without head_parts")
        kind = self.target.kind
        if kind == "regression":
            if self.labels or self.model.num_classes != 1:
                raise ConfigError("a regression model must have one output and no labels")
            return
        if kind == "multilabel" and len(self.target.thresholds) != len(self.labels):
            raise ConfigError(f"there must be one threshold for each of the {len(self.labels)} labels")
        if len(self.labels) != self.model.num_classes or len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"there must be one unique label for each of the {self.model.num_classes} classes")

    def _check_sizes(self) -> None:
        if self.preprocessing.channels != self.model.channels:
            raise ConfigError(
                f"preprocessing.channels is {self.preprocessing.channels}, but model.channels is "
                f"{self.model.channels}: they must be equal"
            )
        for name in ("dim", "heads", "mlp_dim", "dim_head"):
            check_range(f"model.{name}", getattr(self.model, name), 1, MAX_WIDTH)
        check_range("model.design.registers", self.model.design.registers, 0, MAX_SIDE)
        check_range("model.design.norm_eps", self.model.design.norm_eps, 0, 1)
        check_range("model.image_size", max(self.model.image_hw), 1, MAX_SIDE)
        if self.int8:
            bounds = self.int8.get("bounds")
            if not isinstance(bounds, list) or not all(is_number(bound) and 0 <= bound < 1e30 for bound in bounds):
                raise ConfigError("int8.bounds must be a non-negative number for each layer")
            speeds = self.int8.get("speeds", [])
            if not isinstance(speeds, list) or not all(map(_is_speed, speeds)):
                raise ConfigError("int8.speeds must have a batch, seconds by precision, an alternative and faster")


def _is_speed(value: Any) -> bool:
    match value:
        case {"batch": int(), "seconds": {"int8": seconds, **others}, "alternative": str(name), "faster": bool()}:
            return is_number(seconds) and is_number(others.get(name))
    return False
