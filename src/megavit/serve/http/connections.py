"""How many connections there may be: as many as leave descriptors for what the server itself needs."""

import asyncio
import resource
import time

from megavit.serve.errors import ApiError
from megavit.serve.logging import Log

SPARE_FILES = 32
"""Descriptors that connections leave free: for refusing more of them, for starting workers, for reading files."""
MAX_DESCRIPTORS = 8_192
"""However many the system allows: a silent connection takes 7 KB, one with as long a head as may be ten times that."""
LOG_SECONDS = 10.0
"""Between two lines of the log about it."""


class ConnectionsLimit:
    """Refuses connections beyond what there are descriptors for, and logs that, but not for each.

    Left alone, the event loop resets new connections once there are no descriptors, and nothing tells of it.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._refused = 0
        self._told = float("-inf")

    def check(self, transport: asyncio.Transport) -> ApiError | None:
        """What to tell a new connection where there is none for it. The last spare ones are closed without a word."""
        # The system gives the lowest free number, so that it tells how many are taken, whatever by.
        number = transport.get_extra_info("socket").fileno()
        spare = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], MAX_DESCRIPTORS) - number
        if spare > SPARE_FILES:
            return None
        self._refused += 1
        if time.monotonic() - self._told > LOG_SECONDS:
            self._log("too_many_connections", refused=self._refused, descriptors=number)
            self._refused, self._told = 0, time.monotonic()
        if spare <= SPARE_FILES // 2:
            transport.abort()
        return ApiError(503, "there are as many connections as the server can hold; try again", retry_after=2)
