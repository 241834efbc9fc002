"""How far a model's answers may be trusted, as it was found on images held back from training."""

import math
from dataclasses import dataclass, field
from typing import Any

from megavit.config.checks import check_fraction, check_integer, check_range, is_number
from megavit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted on the validation images. Its tensors are beside it, in the bundle's `calibration.safetensors`.

    Attributes:
        images: that it was fitted on; 0 where nothing was.
        temperature: the logits are divided by it (arXiv 1706.04599, section 4.2).
        smoothing: share in [0, 1) of the probabilities that the model spreads evenly over the classes, as label
            smoothing has taught it; taken off again.
        ood_false_alarm_rate: of images like those of training, this share in (0, 1) is marked as unlike them.
        threshold: of the distance from which on an image is marked; None where none was fitted.
        measured: what came of it on the test images, as `megavit.evaluate.uncertainty.uncertainty` writes it.
    """

    images: int = 0
    temperature: float = 1.0
    smoothing: float = 0.0
    ood_false_alarm_rate: float = 0.01
    ood_threshold: float | None = None
    test_metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_integer("images", self.images, minimum=0)
        # Calibration looks for it from a hundredth to a hundred.
        check_range("temperature", self.temperature, 1e-3, 1e3)
        check_fraction("smoothing", self.smoothing)
        check_fraction("ood_false_alarm_rate", self.ood_false_alarm_rate)
        if self.ood_threshold is not None and not (is_number(self.ood_threshold) and math.isfinite(self.ood_threshold)):
            raise ConfigError(f"ood_threshold must be a finite number, got {self.ood_threshold!r}")
