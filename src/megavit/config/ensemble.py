"""Describe the models of an ensemble."""

from dataclasses import dataclass

from megavit.config.checks import check_fraction, check_integer, check_range


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model of an ensemble, and how its logits become the outputs that are averaged.

    Attributes:
        fold: fold of the cross-validation in which it was trained.
        temperature, smoothing: as in `megavit.config.calibration.Calibration`.
        mean, std: as in `megavit.config.target.Target`.
    """

    fold: int
    temperature: float = 1.0
    smoothing: float = 0.0
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_integer("fold", self.fold, minimum=1)
        check_range("temperature", self.temperature, 1e-3, 1e3)
        check_fraction("smoothing", self.smoothing)
        check_range("mean", self.mean, -1e30, 1e30)
        check_range("std", self.std, 1e-30, 1e30)
