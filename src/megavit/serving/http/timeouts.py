"""Add time and size limits to uvicorn's HTTP protocol, which waits forever for slow clients, and refuse cheaply."""

import asyncio
import json
from typing import Any, NoReturn

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from megavit.serving.errors import ApiError
from megavit.serving.http.connections import ConnectionLimit, DrainingTransport
from megavit.serving.http.overload import Overload
from megavit.serving.http.parser import RequestParser
from megavit.serving.metrics import Metrics

MAX_HEADER_BYTES = 2**16
"""Maximum bytes of headers, of trailers, and of any other consecutive data that is not a body."""
MAX_HEADERS = 128
MAX_URL_BYTES = 2**13
"""Maximum bytes of path and query."""
FREE_CHUNKS, MIN_CHUNK_BYTES = 1024, 64
"""Number of a body's chunks that may have any size, and the minimum average size required beyond them."""
MAX_PIPELINED = 64
"""Maximum number of requests waiting behind an unanswered one of their connection."""
GRACE_SECONDS = 1.0
"""Seconds in which the application itself may refuse a late body."""
MAX_DISCARDED_BYTES = 2**16
"""Maximum size of a body that is read for nothing, so that the connection of a refused request can be used again."""


class TimeoutProtocol(HttpToolsProtocol):
    """HTTP/1.1 with timeouts for reading, writing and keep-alive.

    A request must have arrived within `read_timeout` seconds of its first byte (or of the connection, for the first
    one), and the next one begin within `keep_alive` seconds of a response. The start of a request is in its scope's
    state as `started`. A client that reads nothing of its response for `write_timeout` seconds is disconnected.

    `overload` answers the predictions that the application need not see.

    A pipelined request starts after the response before it; if it is invalid, the connection is closed then.
    """

    read_timeout: float
    write_timeout: float
    keep_alive: float
    metrics: Metrics
    connection_limit: ConnectionLimit
    overload: Overload | None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._draining_transport = DrainingTransport(transport)
        self.parser: Any = RequestParser(self)
        self._overhead = 0
        self._in_request = self._in_body = self._ignore_input = self._is_discarding = False
        self._running: RequestResponseCycle | None = None
        self._error: ApiError | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._start_timer(self.read_timeout)
        super().connection_made(self._draining_transport)  # type: ignore[arg-type]
        error = self.connection_limit.check(transport, len(self.connections))
        if error is not None:
            self._draining_transport.unread = True
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._draining_transport.connection_lost()
        self._stop_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
        if self._running is not None:  # uvicorn notifies only the last parsed request
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._draining_transport.closed or self._ignore_input:
            return
        if self.overload is not None and not self._in_request and self._is_idle:
            response = self.overload.refuse_whole(data)
            if response is not None:
                self._unset_keepalive_if_required()
                self._draining_transport.write(response)
                self._start_timer(self.keep_alive)
                return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > MAX_HEADER_BYTES and not self._draining_transport.closed and not self._ignore_input:
            self._refuse(ApiError(431, f"headers or trailers exceed the limit of {MAX_HEADER_BYTES // 1024} KiB"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._chunks = self._received = 0
        if self._in_request:  # second parse of headers with an upgrade
            return
        self._in_request = self._draining_transport.unread = True
        self._start_timer(self.read_timeout)
        self._started = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # ignore trailers
            return
        if len(self.headers) == MAX_HEADERS:
            self._abort_parsing(ApiError(431, f"the request has more than {MAX_HEADERS} headers"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if len(self.url) > MAX_URL_BYTES:
            self._abort_parsing(ApiError(414, f"the URL exceeds the limit of {MAX_URL_BYTES // 1024} KiB"))
        if len(self.pipeline) == MAX_PIPELINED:
            self._abort_parsing(ApiError(429, f"more than {MAX_PIPELINED} pipelined requests wait for a response"))
        if self.overload is not None and self._can_discard():
            response = self.overload.refuse(self.parser.get_method(), self.url)
            if response is not None:
                self._is_discarding = True
                self._draining_transport.write(response)
                return
        self.scope["state"]["started"] = self._started
        super().on_headers_complete()
        self.scope["state"]["cycle"] = self.cycle  # tells the application whether the body has arrived
        self._in_body = True
        if not self.pipeline:
            self._running = self.cycle

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > FREE_CHUNKS and self._received < MIN_CHUNK_BYTES * (self._chunks - 1):
            self._abort_parsing(ApiError(400, "the chunks of the body have only a few bytes each: send larger ones"))

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        if self._is_discarding:
            return
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._stop_timer()
        self._overhead = 0
        self._in_request = self._in_body = self._draining_transport.unread = False
        if self._is_discarding:
            self._is_discarding = False
            self._start_timer(self.keep_alive)
            return
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._running = self.pipeline[-1][0] if self.pipeline else None
        if self._running is not None:
            self._running.scope["state"]["started"] = self.loop.time()
        if not self._draining_transport.closed and self._running is self._receiving:
            self._started = self.loop.time()
            self._start_timer(self.read_timeout if self._in_request else self.keep_alive)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_timeout, self._draining_transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._error or ApiError(400, "the request is not valid HTTP/1.1"))

    @property
    def is_new(self) -> bool:
        """Whether no complete request has arrived yet."""
        return self.cycle is None or self._in_request

    def _on_timeout(self) -> None:
        if not self._in_request or self._is_discarding:
            self._draining_transport.close()
        elif self._running not in (None, self._receiving):  # reading may be paused
            self._start_timer(self.read_timeout)
        elif not self._in_body:
            self._refuse(ApiError(408, f"the request's headers did not arrive within {self.read_timeout:g} seconds"))
        else:
            self._read_timer = self.loop.call_later(GRACE_SECONDS, self._draining_transport.close)

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered, and the client reads its responses."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _can_discard(self) -> bool:
        """Return whether the arriving request has a small body, and its connection nothing else to do."""
        if not self._is_idle or self.expect_100_continue or not self.parser.should_keep_alive():
            return False
        lengths = [value for name, value in self.headers if name == b"content-length"]
        return len(lengths) == 1 and len(lengths[0]) < 6 and int(lengths[0]) <= MAX_DISCARDED_BYTES

    @property
    def _receiving(self) -> RequestResponseCycle | None:
        return self.cycle if self._in_body else None

    def _abort_parsing(self, error: ApiError) -> NoReturn:
        """Raise the error in a parser callback; the parser then calls only `send_400_response`."""
        self._error = error
        raise error

    def _refuse(self, error: ApiError) -> None:
        """Respond to the arriving request with an error, without the application."""
        self.metrics.errors.labels(error.code).inc()
        if self.pipeline and self.pipeline[0][0] is self._receiving:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None and last is not self._receiving:
            last.keep_alive, self._ignore_input = False, True
            return
        if last is None or not last.response_started:
            content = json.dumps(error.to_dict()).encode()
            headers = error.headers | {"content-type": "application/json", "content-length": str(len(content))}
            lines = [f"HTTP/1.1 {error.status} {error.code}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self._draining_transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        self._draining_transport.close()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._read_timer = self.loop.call_later(seconds, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
