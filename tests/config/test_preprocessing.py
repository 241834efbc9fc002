"""What becomes of pixels is checked where it is written down."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from megavit.config.preprocessing import Preprocessing
from megavit.errors import ConfigError


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_rgb_are_taken(channels: int) -> None:
    preprocessing = Preprocessing(height=32, width=48, channels=channels)
    assert (preprocessing.mean, preprocessing.std) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 0}, ["height", "at least 2", "got 0"]),
        ({"width": 32.0}, ["width", "got 32.0"]),
        ({"width": True}, ["width", "got True"]),
        ({"channels": 65}, ["channels", "1 to 64", "got 65"]),
        ({"channels": "3"}, ["channels", "1 to 64", "got '3'"]),
        ({"mean": "0.5"}, ["mean", "got '0.5'"]),
        ({"mean": True}, ["mean", "got True"]),
        ({"channels": 5, "mean": (0.5, 0.5)}, ["mean", "one for each of 5", "(0.5, 0.5)"]),
        ({"channels": 2, "mean": (0.5, "0.5")}, ["mean", "got '0.5'"]),
        ({"channels": 2, "std": (0.5, 0.0)}, ["std", "above 0", "got 0.0"]),
        ({"std": 0}, ["std", "above 0", "got 0"]),
        ({"std": -0.5}, ["std", "above 0", "got -0.5"]),
        ({"std": float("nan")}, ["std", "got nan"]),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(changes: dict[str, Any], words: list[str]) -> None:
    settings: dict[str, Any] = {"height": 32, "width": 32, "channels": 3} | changes
    with pytest.raises(ConfigError) as caught:
        Preprocessing(**settings)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("channels", True), ("channels", 3.0), ("mean", float("nan")), ("mean", float("inf"))],
)
def test_values_that_only_look_right_are_refused(setting: str, value: Any) -> None:
    settings: dict[str, Any] = {"height": 32, "width": 32, "channels": 3, setting: value}
    with pytest.raises(ConfigError, match=setting):
        Preprocessing(**settings)


def test_it_is_frozen_and_compares_by_value() -> None:
    preprocessing = Preprocessing(height=32, width=32, channels=3)
    assert preprocessing == Preprocessing(height=32, width=32, channels=3)
    assert hash(preprocessing) == hash(Preprocessing(height=32, width=32, channels=3))
    with pytest.raises(FrozenInstanceError):
        preprocessing.height = 64  # pyrefly: ignore[read-only]
