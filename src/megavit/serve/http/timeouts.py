"""Connections that end: uvicorn by itself waits for ever for a client that sends, or reads, slowly."""

import asyncio
import contextlib
import json
import socket
import struct
from typing import Any, NoReturn

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from megavit.serve.errors import ApiError
from megavit.serve.http.connections import ConnectionsLimit
from megavit.serve.http.parser import RequestParser
from megavit.serve.metrics import Metrics

MOST_HEAD_BYTES = 2**16
"""Of a head, of trailers, and of whatever else is not a body, in a row."""
MOST_HEADERS = 128
MOST_ADDRESS_BYTES = 2**13
"""Of a path with its query: each name in it that is none of ours costs more than its bytes."""
FREE_CHUNKS, LEAST_CHUNK_BYTES = 1024, 64
"""Chunks of a body of any size, and bytes that they have on average, where there are more: each is work by itself."""
MOST_PIPELINED = 64
"""Requests that were sent behind one that is not answered yet."""
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
    """HTTP/1.1 in which a request must have arrived within `read_timeout` seconds of its first byte, the first one of
    its connection too, and the next one have begun within `keep_alive` seconds of an answer, whatever else arrives. The
    time at which a request began is in its scope's state. A client that reads nothing of its answers for
    `write_timeout` seconds is left.

    A request that was sent behind others begins when it is its turn. What is wrong with it is told when they are
    answered, by closing the connection.
    """

    read_timeout: float
    write_timeout: float
    keep_alive: float
    metrics: Metrics
    connections_limit: ConnectionsLimit

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._own = Lingering(transport)
        self.parser: Any = RequestParser(self)
        self._overhead = 0
        self._begun = self._in_body = self._deaf = False
        self._running: RequestResponseCycle | None = None
        self._wrong: ApiError | None = None
        self._unwritten: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._arm(self.read_timeout)
        super().connection_made(self._own)  # type: ignore[arg-type]
        full = self.connections_limit.check(transport)
        if full is not None:
            self._own.unread = True
            self._refuse(full)

    def connection_lost(self, exc: Exception | None) -> None:
        self._own.lost()
        self._disarm()
        if self._unwritten is not None:
            self._unwritten.cancel()
        if self._running is not None:  # uvicorn tells the last one that it has parsed
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._own.closed or self._deaf:
            return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > MOST_HEAD_BYTES and not self._own.closed and not self._deaf:
            self._refuse(ApiError(431, f"headers, or trailers, above the limit of {MOST_HEAD_BYTES // 1024} KiB"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._chunks = self._arrived = 0
        if self._begun:  # an upgrade's head, a second time
            return
        self._begun, self._own.unread = True, True
        self._arm(self.read_timeout)
        self._began = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # trailers: nothing of ours reads them
            return
        if len(self.headers) == MOST_HEADERS:
            self._stop(ApiError(431, f"more than {MOST_HEADERS} headers"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if len(self.url) > MOST_ADDRESS_BYTES:
            self._stop(ApiError(414, f"an address above the limit of {MOST_ADDRESS_BYTES // 1024} KiB"))
        if len(self.pipeline) == MOST_PIPELINED:
            self._stop(ApiError(429, f"more than {MOST_PIPELINED} requests behind one that is not answered yet"))
        self.scope["state"]["began"] = self._began
        super().on_headers_complete()
        self._in_body = True
        if not self.pipeline:
            self._running = self.cycle

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > FREE_CHUNKS and self._arrived < LEAST_CHUNK_BYTES * (self._chunks - 1):
            self._stop(ApiError(400, "a body in chunks of a few bytes each; send larger ones"))

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._arrived += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._disarm()
        self._overhead = 0
        self._begun = self._in_body = self._own.unread = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._running = self.pipeline[-1][0] if self.pipeline else None
        if self._running is not None:
            self._running.scope["state"]["began"] = self.loop.time()
        if not self._own.closed and self._running is self._incoming:
            self._began = self.loop.time()
            self._arm(self.read_timeout if self._begun else self.keep_alive)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unwritten = self.loop.call_later(self.write_timeout, self._own.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unwritten is not None:
            self._unwritten.cancel()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._wrong or ApiError(400, "this is not HTTP/1.1"))

    @property
    def is_fresh(self) -> bool:
        """Whether there was no whole request yet."""
        return self.cycle is None or self._begun

    def _late(self) -> None:
        if not self._begun:
            self._own.close()
        elif self._running not in (None, self._incoming):  # we ourselves may not be reading on
            self._arm(self.read_timeout)
        elif not self._in_body:
            self._refuse(ApiError(408, f"the request's headers did not arrive within {self.read_timeout:g} seconds"))
        else:
            self._deadline = self.loop.call_later(GRACE_SECONDS, self._own.close)

    @property
    def _incoming(self) -> RequestResponseCycle | None:
        """The request whose body is arriving."""
        return self.cycle if self._in_body else None

    def _stop(self, refusal: ApiError) -> NoReturn:
        """In a callback of the parser, which then calls no more of them, but `send_400_response`."""
        self._wrong = refusal
        raise refusal

    def _refuse(self, refusal: ApiError) -> None:
        """Tell what is wrong with what arrives, which the application does not see, or not to its end."""
        self.metrics.refusals.labels(refusal.kind).inc()
        if self.pipeline and self.pipeline[0][0] is self._incoming:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None and last is not self._incoming:
            last.keep_alive, self._deaf = False, True
            return
        if last is None or not last.response_started:
            content = json.dumps(refusal.to_dict()).encode()
            fields = refusal.headers | {"content-type": "application/json", "content-length": str(len(content))}
            lines = [f"HTTP/1.1 {refusal.status} {refusal.kind}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in fields.items()]
            self._own.write("\r\n".join([*lines, "", ""]).encode() + content)
        self._own.close()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
