"""How a model's predictions are calibrated, as fitted on images held back from training."""

import math
from dataclasses import dataclass, field
from typing import Any

from megavit.config.checks import check_fraction, check_integer, check_range, is_number
from megavit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted on the validation images; its tensors are in the bundle's `calibration.safetensors`.

    Attributes:
        images: number it was fitted on; 0 where nothing was.
        temperature: divides the logits (arXiv 1706.04599, section 4.2).
        smoothing: share in [0, 1) of the probabilities that the model spreads evenly over the classes, as label
            smoothing has taught it; subtracted again.
        ood_false_alarm_rate: share in (0, 1) of in-distribution images that are marked as out of distribution.
        ood_threshold: an image whose distance is above it is marked; None where none was fitted.
        test_metrics: on the test images, as `megavit.evaluate.uncertainty.uncertainty` writes them.
    """

    images: int = 0
    temperature: float = 1.0
    smoothing: float = 0.0
    ood_false_alarm_rate: float = 0.01
    ood_threshold: float | None = None
    test_metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_integer("images", self.images, minimum=0)
        # The fit searches from 1e-2 to 1e2.
        check_range("temperature", self.temperature, 1e-3, 1e3)
        check_fraction("smoothing", self.smoothing)
        check_fraction("ood_false_alarm_rate", self.ood_false_alarm_rate)
        if self.ood_threshold is not None and not (is_number(self.ood_threshold) and math.isfinite(self.ood_threshold)):
            raise ConfigError(f"ood_threshold must be a finite number, got {self.ood_threshold!r}")
