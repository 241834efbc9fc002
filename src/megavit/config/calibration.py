"""Describe how a model's predictions are calibrated on held-out images."""

import math
from dataclasses import dataclass, field
from typing import Any

from megavit.config.checks import check_fraction, check_integer, check_range, is_number
from megavit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The calibration fitted on validation images; its tensors are in the bundle's `calibration.safetensors`.

    Attributes:
        images: number of images used for the fit; 0 if nothing was fitted.
        temperature: divisor of the logits (arXiv 1706.04599, section 4.2).
        smoothing: share in [0, 1) of the probability spread evenly over the classes by label smoothing, which is
            subtracted again.
        ood_false_alarm_rate: share in (0, 1) of in-distribution images marked as out of distribution.
        ood_threshold: distance above which an image is marked as out of distribution; None if not fitted.
        test_metrics: metrics on the test images, as written by `megavit.evaluation.uncertainty.uncertainty`.
    """

    images: int = 0
    temperature: float = 1.0
    smoothing: float = 0.0
    ood_false_alarm_rate: float = 0.01
    ood_threshold: float | None = None
    test_metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_integer("images", self.images, minimum=0)
        # The fit searches temperatures from 1e-2 to 1e2.
        check_range("temperature", self.temperature, 1e-3, 1e3)
        check_fraction("smoothing", self.smoothing)
        check_fraction("ood_false_alarm_rate", self.ood_false_alarm_rate)
        if self.ood_threshold is not None and not (is_number(self.ood_threshold) and math.isfinite(self.ood_threshold)):
            raise ConfigError(f"ood_threshold must be a finite number, got {self.ood_threshold!r}")
