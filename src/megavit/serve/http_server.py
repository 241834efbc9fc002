"""uvicorn, as we need it: with time limits, one log, and no signals of its own."""

import asyncio
import contextlib
import logging
import math
import socket
import traceback
from collections.abc import Iterator
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config, Server

from megavit.serve.connections import ConnectionsLimit
from megavit.serve.log import Log
from megavit.serve.metrics import Metrics
from megavit.serve.settings import Settings
from megavit.serve.slow import TimedProtocol

FRESH_SECONDS = 1.0
CLOSING_SECONDS = 5
"""For connections that do not end by themselves, once everything is answered."""


class HttpServer(Server):
    """Ends when its `should_exit` is set."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are `megavit.serve.run`'s."""
        yield

    async def stop_listening(self, listener: socket.socket) -> None:
        """Take no more connections, and give those that were just made the moment that their request needs."""
        loop = asyncio.get_running_loop()
        # Connections that the system has made for us already would be reset with the last socket that listens.
        with listener.dup() as last:
            last.setblocking(False)
            for listening in self.servers:
                listening.close()
            made: list[socket.socket] = []
            with contextlib.suppress(OSError):
                while True:
                    made.append(last.accept()[0])
        for connection in made:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, connection)
        end = loop.time() + FRESH_SECONDS
        while loop.time() < end and any(
            isinstance(connection, TimedProtocol) and connection.is_fresh
            for connection in self.server_state.connections
        ):
            await asyncio.sleep(0.02)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def make_server(app: ASGIApp, settings: Settings, counts: Metrics, log: Log) -> HttpServer:
    """For a socket that listens already."""
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.addHandler(_ToLog(log))
        logger.propagate = False
        logger.setLevel(logging.WARNING)

    class Protocol(TimedProtocol):
        read_timeout = settings.read_timeout
        write_timeout = settings.timeout
        keep_alive = settings.keep_alive
        metrics = counts
        connections_limit = ConnectionsLimit(log)

    return HttpServer(
        Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=math.ceil(settings.keep_alive) + 1,  # the protocol has its own
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
    )


class _ToLog(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else None
        self._log("warning", source=record.name, message=record.getMessage(), error=error)
