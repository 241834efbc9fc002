"""Wait for a condition for as long as the slowest machine may need."""

import time
from collections.abc import Callable

PATIENCE = 600  # seconds: a busy machine is no fault of the code, and what never comes must still end


def wait_until(
    reached: Callable[[], bool], *, possible: Callable[[], bool] = lambda: True, why: Callable[[], str] = str
) -> None:
    """Poll until `reached()` is true; fail, saying `why()`, as soon as `possible()` is not."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert possible() and time.monotonic() < end, why()
        time.sleep(0.002)
