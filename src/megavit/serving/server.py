"""Run the HTTP server from start to shutdown."""

import asyncio
import contextlib
import math
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config, Server

from megavit.errors import ConfigError
from megavit.runtime.open_files import raise_open_files_limit
from megavit.runtime.signals import STOP_SIGNALS
from megavit.serving.http.connections import ConnectionLimit
from megavit.serving.http.timeouts import TimeoutProtocol
from megavit.serving.logging import JsonLinesHandler, log_event, start_logging
from megavit.serving.metrics import Metrics
from megavit.serving.request_body import ByteBudget
from megavit.serving.settings import Settings
from megavit.serving.workers.model_service import ModelService

NEW_CONNECTION_SECONDS = 1.0
"""Seconds that a connection made just before the shutdown has to send its request."""
SHUTDOWN_SECONDS = 5
"""Seconds that connections have to close by themselves after the last response."""
_BACKLOG = 2048
_MAX_FILES = 65_536


def serve(
    sources: Sequence[tuple[str, str]],
    settings: Settings,
    on_ready: Callable[[str], None],
    get_stop: Callable[[], asyncio.Event] | None = None,
) -> None:
    """Serve models until a stop signal, then finish all accepted requests; a second signal exits at once.

    Args:
        sources: (name, folder or hf-hub:USER/NAME) of each model, see `megavit.serving.model_sources.parse_sources`.
        on_ready: called with the URL when all models are ready.
        get_stop: called in the event loop, for an event that stops the server in place of signals; nothing is written
            to standard error then. None in a process of its own.

    Raises:
        ConfigError: if the server cannot listen on the address.
        BundleError: if a model cannot be served.
    """
    with _listen(settings) as listener:
        if get_stop is not None:
            _run(_serve(sources, settings, on_ready, listener, lambda _: contextlib.nullcontext(get_stop())))
            return
        handler = start_logging()
        try:
            _run(_serve(sources, settings, on_ready, listener, lambda models: _handle_signals(models, handler)))
        finally:
            handler.close()


async def _serve(
    sources: Sequence[tuple[str, str]],
    settings: Settings,
    on_ready: Callable[[str], None],
    listener: socket.socket,
    make_stop: Callable[[Mapping[str, ModelService]], AbstractContextManager[asyncio.Event]],
) -> None:
    metrics, budget = Metrics(), ByteBudget(settings.max_total_bytes)
    models = {name: ModelService(name, source, settings, metrics, budget) for name, source in sources}
    with make_stop(models) as stop:
        try:
            # Import while the workers load their models.
            await asyncio.gather(
                *(_wait_for_first(model.spawned.wait(), model.first_ready) for model in models.values())
            )
            from megavit.serving.http.app import make_app
            from megavit.serving.http.middleware import ServerMiddleware

            app = ServerMiddleware(make_app(models, settings, metrics, budget), settings, metrics)
            server = _make_server(app, settings, metrics)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await _wait_for_first(asyncio.gather(*(model.first_ready for model in models.values())), stop.wait())
                if not stop.is_set():
                    url = _get_url(listener)
                    log_event("serving", url=url, models=list(models))
                    on_ready(url)
                    await stop.wait()
                app.draining = True
                log_event("draining", requests=app.active)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(settings.timeout):
                        while app.active:
                            await asyncio.sleep(0.02)
                await server.stop_listening(listener)
            finally:
                server.should_exit = True
                await serving
        finally:
            await asyncio.gather(*(model.close() for model in models.values()))
    log_event("stopped")


class _HttpServer(Server):
    """A uvicorn server that runs until `should_exit` is set."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `_handle_signals`."""
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


def _make_server(app: ASGIApp, settings: Settings, server_metrics: Metrics) -> _HttpServer:
    class Protocol(TimeoutProtocol):
        read_timeout = settings.read_timeout
        write_timeout = settings.timeout
        keep_alive = settings.keep_alive
        metrics = server_metrics
        connection_limit = ConnectionLimit()

    return _HttpServer(
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
def _handle_signals(models: Mapping[str, ModelService], handler: JsonLinesHandler) -> Iterator[asyncio.Event]:
    """Yield an event that the first stop signal sets; a second signal exits."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if not stop.is_set():
            stop.set()
            return
        log_event("killed", signal=number)
        for model in models.values():
            model.kill()
        handler.close()
        os._exit(128 + number)

    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with contextlib.ExitStack() as stack:
        for number, action in previous.items():
            if action != signal.SIG_IGN:  # as set by nohup
                # Not by the loop's own handlers, which Windows does not have.
                signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(on_signal, number))
                stack.callback(signal.signal, number, action)
        yield stop


def _run(server: Coroutine[Any, Any, None]) -> None:
    """Run the server in uvloop's event loop, which answers more requests, or Python's own where there is none."""
    try:
        from uvloop import new_event_loop
    except ImportError:  # Windows
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(server)


@contextlib.contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
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


def _get_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _wait_for_first(*awaitables: Awaitable[Any]) -> None:
    """Wait until one awaitable is done, cancel the other tasks, and raise its exception if it has one."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        if not isinstance(awaitables[tasks.index(task)], asyncio.Future):
            task.cancel()
    for task in done:
        task.result()
