"""Limit the number of connections, and close them without losing responses."""

import asyncio
import contextlib
import os
import socket
import struct
import time
from typing import Any

from megavit.runtime.open_files import get_open_files_limit
from megavit.serving.errors import ApiError
from megavit.serving.logging import log_event

SPARE_DESCRIPTORS = 32
"""File descriptors not used for connections, so that workers can start and files be read."""
MAX_DESCRIPTORS = 8_192
"""Maximum number of file descriptors: an idle connection takes 7 KB, one with the longest headers ten times that."""
LOG_SECONDS = 10.0
"""Minimum seconds between two log lines about refused connections."""
DRAIN_SECONDS = 2.0
"""Seconds that a client has to read the response to a request that was not read to its end."""
FLUSH_SECONDS = 30.0
"""Seconds that a client has to read its response before its connection is closed."""


class ConnectionLimit:
    """A limit on connections that refuses them before file descriptors run out, and logs refusals occasionally.

    Without it the event loop silently resets new connections when there are no descriptors.
    """

    def __init__(self) -> None:
        self._refused = 0
        self._logged = float("-inf")

    def check(self, transport: asyncio.Transport, open_connections: int) -> ApiError | None:
        """Return the error for a connection over the limit; also close it if half of the spare descriptors are used."""
        limit = get_open_files_limit()
        # The system assigns the lowest free number, which shows how many are in use; Windows any, and without a limit.
        number = open_connections if limit is None else transport.get_extra_info("socket").fileno()
        spare = min(limit or MAX_DESCRIPTORS, MAX_DESCRIPTORS) - number
        if spare > SPARE_DESCRIPTORS:
            return None
        self._refused += 1
        if time.monotonic() - self._logged > LOG_SECONDS:
            log_event("too_many_connections", refused=self._refused, descriptors=number)
            self._refused, self._logged = 0, time.monotonic()
        if spare <= SPARE_DESCRIPTORS // 2:
            transport.abort()
        return ApiError(503, "the server has reached its connection limit; try again in a moment", retry_after=2)


class DrainingTransport:
    """A transport whose `close` lets the client read the response.

    Closing a connection with unread bytes resets it, and the client may never see the response. It is therefore closed
    for writing only, and completely when the client closes it, or after `DRAIN_SECONDS`.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.unread = False
        self.closed = self._lost = False
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def is_closing(self) -> bool:
        return self.closed or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self.closed = True
        drain = self.unread and self._transport.can_write_eof()
        if drain:
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()
        self._timer = asyncio.get_running_loop().call_later(DRAIN_SECONDS if drain else FLUSH_SECONDS, self.abort)

    def abort(self) -> None:
        """Reset the connection, so that the system discards unread data."""
        if self._lost:
            return
        with contextlib.suppress(OSError):
            no_linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self._transport.abort()

    def connection_lost(self) -> None:
        self.closed = self._lost = True
        if self._timer is not None:
            self._timer.cancel()
