"""What a target may be."""

import math

import pytest

from megavit.config.serialization import from_dict, to_dict
from megavit.config.target import Target
from megavit.errors import ConfigError


@pytest.mark.parametrize(
    "target",
    [Target(), Target(kind="multilabel", thresholds=[0.5, 1.0]), Target(kind="regression", mean=-2.0, std=0.1)],
)
def test_a_target_survives_being_written(target):
    assert from_dict(Target, to_dict(target), "x") == target


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "ranks"},
        {"thresholds": [0.0]},
        {"thresholds": [1.1]},
        {"std": 0.0},
        {"mean": math.nan},
        {"std": math.inf},
    ],
)
def test_what_cannot_be_is_refused_by_name(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Target(**changes)
