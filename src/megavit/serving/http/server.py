"""Run an ASGI application on uvicorn: listen, stop by signals, and close without losing requests."""

import asyncio
import contextlib
import math
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config, Server

from megavit.errors import ConfigError
from megavit.runtime.open_files import raise_open_files_limit
from megavit.runtime.signals import STOP_SIGNALS
from megavit.serving.http.connections import ConnectionLimit
from megavit.serving.http.overload import Overload
from megavit.serving.http.timeouts import TimeoutProtocol
from megavit.serving.metrics import Metrics
from megavit.serving.settings import Settings

NEW_CONNECTION_SECONDS = 1.0
"""Seconds that a connection made just before the shutdown has to send its request."""
SHUTDOWN_SECONDS = 5
"""Seconds that connections have to close by themselves after the last response."""
_BACKLOG = 2048
_MAX_FILES = 65_536


class HttpServer(Server):
    """A uvicorn server that runs until `should_exit` is set."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `handle_signals`."""
        yield

    async def stop_listening(self, listener: socket.socket) -> None:
        """Accept no more connections, and wait briefly for the requests of those just made."""
        loop = asyncio.get_running_loop()
        # Closing the last listening socket would reset the connections in the backlog.
        with listener.dup() as last:
            last.setblocking(False)
            for listening in self.servers:
                listening.close()
            connections: list[socket.socket] = []
            with contextlib.suppress(OSError):
                while True:
                    connections.append(last.accept()[0])
        make_protocol: Any = self.config.http_protocol_class
        arguments = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        for connection in connections:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(lambda: make_protocol(**arguments), connection)
        end = loop.time() + NEW_CONNECTION_SECONDS
        while loop.time() < end and any(
            isinstance(connection, TimeoutProtocol) and connection.is_new
            for connection in self.server_state.connections
        ):
            await asyncio.sleep(0.02)


def make_server(
    app: ASGIApp,
    settings: Settings,
    server_metrics: Metrics,
    server_overload: Overload | None = None,
) -> HttpServer:
    """Return a server for an ASGI application, with the timeouts of the settings.

    Args:
        server_overload: refusal of predictions that the application need not see.
    """

    class Protocol(TimeoutProtocol):
        read_timeout = settings.read_timeout
        write_timeout = settings.timeout
        keep_alive = settings.keep_alive
        metrics = server_metrics
        connection_limit = ConnectionLimit()
        overload = server_overload

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
            timeout_keep_alive=math.ceil(settings.keep_alive) + 1,  # TimeoutProtocol enforces the limit
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )


@contextlib.contextmanager
def handle_signals(on_second: Callable[[int], None]) -> Iterator[asyncio.Event]:
    """Yield an event that the first stop signal sets; at a second one, `on_second` is called and the process exits."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if not stop.is_set():
            stop.set()
            return
        on_second(number)
        os._exit(128 + number)

    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with contextlib.ExitStack() as stack:
        for number, action in previous.items():
            if action != signal.SIG_IGN:  # as set by nohup
                # Not by the loop's own handlers, which Windows does not have.
                signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(on_signal, number))
                stack.callback(signal.signal, number, action)
        yield stop


def run_loop(server: Coroutine[Any, Any, None]) -> None:
    """Run the server in uvloop's event loop, which answers more requests, or Python's own where there is none."""
    try:
        from uvloop import new_event_loop
    except ImportError:  # Windows
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(server)


@contextlib.contextmanager
def listen(settings: Settings) -> Iterator[socket.socket]:
    """Yield a listening socket, with the limit on open files raised as far as the system allows."""
    raise_open_files_limit(_MAX_FILES)
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(family[4][:2], family=family[0], backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"the server cannot listen on {settings.host}, port {settings.port}: {error.strerror}; choose another "
            "--host or --port (0 picks a free one)"
        ) from None
    with listener:
        yield listener


def get_url(listener: socket.socket) -> str:
    """Return the address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
