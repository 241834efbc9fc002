"""Check settings, raising a ConfigError that names the setting, the allowed values and the given value."""

import re
from collections.abc import Sequence
from dataclasses import field, fields
from functools import partial
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from megavit.errors import ConfigError

MAX_CHANNELS = 64
MAX_SIDE = 2**14  # largest side of the model's input in pixels
MAX_WIDTH = 2**20  # largest vector within a model; 22 billion parameters need 24,576


class Settings:
    """A base class of settings dataclasses whose values are checked on construction.

    `Literal` and `bool` fields are checked by type, the others by the function given to `checked`. None passes where
    the type allows it. pydantic would do the same, but its import would slow down `megavit --help`.
    """

    def __post_init__(self) -> None:
        for setting in fields(self):  # type: ignore[arg-type]
            value = getattr(self, setting.name)
            if get_origin(setting.type) is Literal:
                check_choice(setting.name, value, get_args(setting.type))
            elif setting.type is bool:
                check_bool(setting.name, value)
            elif "check" in setting.metadata and not (value is None and _is_optional(setting.type)):
                setting.metadata["check"](setting.name, value)


def checked(check: Any, default: Any, **limits: Any) -> Any:
    """Return a dataclass field of `Settings` with a default and a function of this module that checks its value."""
    return field(default=default, metadata={"check": partial(check, **limits)})


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {value!r}")


def check_integer(name: str, value: Any, *, minimum: int, maximum: int | None = None) -> None:
    if not is_number(value) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name} must be an integer of at least {minimum}, got {value!r}")
    if maximum is not None and value > maximum:
        raise ConfigError(f"{name} must be an integer from {minimum} to {maximum}, got {value!r}")


def check_fraction(name: str, value: Any) -> None:
    if not is_number(value) or not 0 <= value < 1:
        raise ConfigError(f"{name} must be a number in [0, 1), got {value!r}")


def check_factor(name: str, value: Any) -> None:
    if not is_number(value) or not 0 < value <= 1:
        raise ConfigError(f"{name} must be a number in (0, 1], got {value!r}")


def check_positive(name: str, value: Any, *, maximum: float = float("inf")) -> None:
    if not is_number(value) or not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be a number above 0, got {value!r}")
    if value > maximum:
        raise ConfigError(f"{name} must be a number above 0 and at most {maximum}, got {value!r}")


def check_range(name: str, value: Any, low: float, high: float) -> None:
    if not is_number(value) or not low <= value <= high:
        raise ConfigError(f"{name} must be a number from {low} to {high}, got {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name} must be a text that is not empty, got {value!r}")


def check_channels(name: str, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= MAX_CHANNELS:
        raise ConfigError(f"{name} must be an integer from 1 to {MAX_CHANNELS}, got {value!r}")


def check_device(name: str, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:[0-9]+)?", value):
        raise ConfigError(f"{name} must be auto, cpu, cuda, cuda:N, mps, xpu or xpu:N; got {value!r}")


def _is_optional(kind: Any) -> bool:
    return isinstance(kind, UnionType) and type(None) in get_args(kind)
