import math

import pytest

from megavit.config.calibration import Calibration
from megavit.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"images": -1}, "images"),
        ({"ood_false_alarm_rate": 1.0}, "ood_false_alarm_rate"),
        ({"ood_threshold": math.nan}, "ood_threshold"),
        ({"ood_threshold": True}, "ood_threshold"),
    ],
)
def test_what_no_fit_gives_is_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        Calibration(**changes)
