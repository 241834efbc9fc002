"""The checks that every setting goes through; each raises a ConfigError naming the setting and what came."""

import re
from collections.abc import Sequence
from typing import Any

from megavit.errors import ConfigError

MAX_CHANNELS = 64
MAX_SIDE = 2**14
"""Pixels a side of what a model sees."""
MAX_WIDTH = 2**20
"""Numbers of any vector within a model; 22 billion parameters need 24,576."""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_integer(name: str, value: Any, *, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name} must be a whole number of at least {minimum}, got {value!r}")


def check_fraction(name: str, value: Any) -> None:
    if not is_number(value) or not 0 <= value < 1:
        raise ConfigError(f"{name} must be a number in [0, 1), got {value!r}")


def check_positive(name: str, value: Any) -> None:
    if not is_number(value) or not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be a number above 0, got {value!r}")


def check_range(name: str, value: Any, low: float, high: float) -> None:
    if not is_number(value) or not low <= value <= high:
        raise ConfigError(f"{name} must be a number from {low} to {high}, got {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_channels(name: str, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= MAX_CHANNELS:
        raise ConfigError(f"{name} must be a whole number from 1 to {MAX_CHANNELS}, got {value!r}")


def check_device(name: str, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", value):
        raise ConfigError(f"{name} must be auto, cpu, cuda or cuda:N, got {value!r}")
