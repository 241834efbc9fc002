"""Each check lets good values pass and names the setting and the value it refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from megavit.config.checks import (
    check_choice,
    check_fraction,
    check_integer,
    check_positive,
    check_range,
    is_number,
)
from megavit.errors import ConfigError, MegavitError

NAN, INFINITY = float("nan"), float("inf")
CHECKS: dict[str, Callable[[Any], None]] = {
    "whole": lambda value: check_integer("depth", value, minimum=1),
    "fraction": lambda value: check_fraction("depth", value),
    "positive": lambda value: check_positive("depth", value),
    "range": lambda value: check_range("depth", value, 0, 180),
    "choice": lambda value: check_choice("depth", value, ["deep", "flat"]),
}


@pytest.mark.parametrize(
    ("check", "value"),
    [
        ("whole", 1),
        ("whole", 10**30),
        ("fraction", 0),
        ("fraction", 0.0),
        ("fraction", 0.999),
        ("positive", 1e-300),
        ("positive", 3),
        ("range", 0),
        ("range", 180),
        ("range", 7.5),
        ("choice", "flat"),
    ],
)
def test_a_check_lets_good_values_pass(check: str, value: Any) -> None:
    CHECKS[check](value)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        ("whole", 0),
        ("whole", -3),
        ("whole", 2.0),
        ("whole", "2"),
        ("whole", None),
        ("whole", True),
        ("fraction", 1),
        ("fraction", 1.0),
        ("fraction", -0.1),
        ("fraction", NAN),
        ("fraction", "0.1"),
        ("fraction", False),
        ("positive", 0),
        ("positive", -1e-9),
        ("positive", INFINITY),
        ("positive", NAN),
        ("positive", True),
        ("range", -0.1),
        ("range", 180.1),
        ("range", NAN),
        ("range", True),
        ("range", None),
        ("choice", "Deep"),
        ("choice", None),
        ("choice", ["deep"]),
    ],
)
def test_a_check_names_the_setting_and_what_came(check: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        CHECKS[check](value)
    assert str(caught.value).startswith("depth must be ")
    assert str(caught.value).endswith(f"got {value!r}")


@pytest.mark.parametrize(
    ("check", "value", "allowed"),
    [
        ("whole", 0, "an integer of at least 1"),
        ("fraction", 1, "[0, 1)"),
        ("positive", 0, "above 0"),
        ("range", 181, "from 0 to 180"),
        ("choice", "tall", "one of deep, flat"),
    ],
)
def test_a_check_says_what_would_do(check: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CHECKS[check](value)
    assert allowed in str(caught.value)


def test_a_config_error_is_a_value_error_and_ours() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, MegavitError)
    assert ConfigError.exit_code == 2


def test_a_bool_is_no_number() -> None:
    assert is_number(1)
    assert is_number(0.5)
    assert not is_number(True)
    assert not is_number("1")
    assert not is_number(None)
