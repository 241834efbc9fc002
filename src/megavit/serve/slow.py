"""Connections that end: uvicorn by itself waits for ever for a client that sends, or reads, slowly."""

import asyncio
import contextlib
import json
import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from megavit.serve.metrics import Metrics
from megavit.serve.refusal import Refusal

MOST_HEAD_BYTES = 2**16
GRACE_SECONDS = 1.0
"""In which the application itself may refuse a body that came too late."""
LINGER_SECONDS = 2.0
"""In which a client may read the answer to a request that was not read to its end; for the rest of it nobody looks."""
FLUSH_SECONDS = 30.0
"""In which a client must have read its answer, once the connection is to be closed."""


class Lingering:
    """A transport whose `close` lets the client read what it was told.

    Closed with unread bytes, a connection is reset, and the client may never see the answer: so it is closed for
    writing only, and for good when the client is done, or has had its time.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.unread = False
        self.closed = self._gone = False
        self._end: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """What comes after the end goes nowhere."""
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
        loop = asyncio.get_running_loop()
        if self.unread and self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
            self._end = loop.call_later(LINGER_SECONDS, self.abort)
        else:
            self._transport.close()
            self._end = loop.call_later(FLUSH_SECONDS, self.abort)

    def abort(self) -> None:
        """Reset the connection: the system is not to keep what nobody reads either."""
        if self._gone:
            return
        with contextlib.suppress(OSError):
            linger_not_at_all = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not_at_all)
        self._transport.abort()

    def lost(self) -> None:
        """There is nothing left to close."""
        self.closed = self._gone = True
        if self._end is not None:
            self._end.cancel()


class TimedProtocol(HttpToolsProtocol):
    """HTTP/1.1 in which a request must have arrived within `read_timeout` seconds of its first byte, and the first
    one of its connection. The time at which it began is in its scope's state. A client that reads nothing of its
    answers for `write_timeout` seconds is left."""

    read_timeout: float
    write_timeout: float
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._own = Lingering(transport)
        self._head_bytes: int | None = 0
        self._begun = False
        self._unwritten: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(self.read_timeout, self._late)
        super().connection_made(self._own)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        self._own.lost()
        self._disarm()
        if self._unwritten is not None:
            self._unwritten.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._own.closed:
            return
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > MOST_HEAD_BYTES and not self._own.closed:
            self._refuse(Refusal(431, f"headers above the limit of {MOST_HEAD_BYTES // 1024} KiB"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun, self._own.unread = True, True
        self._disarm()
        self._deadline = self.loop.call_later(self.read_timeout, self._late)
        self._began = self.loop.time()
        if self._head_bytes is None:
            self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self.scope["state"]["began"] = self._began
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._disarm()
        self._begun, self._own.unread = False, False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unwritten = self.loop.call_later(self.write_timeout, self._own.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unwritten is not None:
            self._unwritten.cancel()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refusal(400, "this is not HTTP/1.1"))

    @property
    def is_fresh(self) -> bool:
        """Whether there was no whole request yet."""
        return self.cycle is None or self._begun

    def _late(self) -> None:
        if not self._begun:
            self._own.close()
        elif self._head_bytes is not None:
            self._refuse(Refusal(408, f"the request's headers did not arrive within {self.read_timeout:g} seconds"))
        else:
            self._deadline = self.loop.call_later(GRACE_SECONDS, self._own.close)

    def _refuse(self, refusal: Refusal) -> None:
        """Where there is no request yet that the application could refuse."""
        self.metrics.refusals.labels(refusal.kind).inc()
        content = json.dumps(refusal.to_dict()).encode()
        lines = [f"HTTP/1.1 {refusal.status} {refusal.kind}", "content-type: application/json"]
        lines += [f"content-length: {len(content)}", "connection: close", "", ""]
        self._own.write("\r\n".join(lines).encode() + content)
        self._own.close()

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
