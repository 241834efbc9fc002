"""The server from its start to its end."""

import asyncio
import contextlib
import logging
import math
import os
import resource
import signal
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import uvloop
from starlette.types import ASGIApp
from uvicorn import Config, Server

from megavit.errors import ConfigError
from megavit.serve.http.connections import ConnectionsLimit
from megavit.serve.http.timeouts import TimedProtocol
from megavit.serve.logging import Log
from megavit.serve.metrics import Metrics
from megavit.serve.request_body import Room
from megavit.serve.settings import Settings
from megavit.serve.workers.model_service import ModelService

FRESH_SECONDS = 1.0
CLOSING_SECONDS = 5
"""For connections that do not end by themselves, once everything is answered."""


class HttpServer(Server):
    """Ends when its `should_exit` is set."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are `megavit.serve.server`'s."""
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


_BACKLOG = 2048
_MOST_FILES = 65_536


def serve(sources: Sequence[tuple[str, str]], settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve models until a SIGTERM or SIGINT, answer what was accepted, and come back; a second signal ends at once.

    Args:
        sources: (name, folder or hf-hub:USER/NAME) of each, as `megavit.serve.model_sources.named_sources` gives them.
        ready: told the address, once every model answers.

    Raises:
        ConfigError: for an address that cannot be listened on.
        BundleError: for a bundle that cannot be served.
    """
    with _listening(settings) as listener:
        log = Log()
        try:
            uvloop.run(_serve(sources, settings, ready, listener, log))
        finally:
            log.close()


async def _serve(
    sources: Sequence[tuple[str, str]],
    settings: Settings,
    ready: Callable[[str], None],
    listener: socket.socket,
    log: Log,
) -> None:
    metrics, room = Metrics(), Room(settings.most_bytes)
    models = {name: ModelService(name, source, settings, metrics, log, room) for name, source in sources}
    stop = _stopped_by_signals(models, log)
    try:
        # The workers import and load while we import ourselves.
        await asyncio.gather(*(_first_of(model.spawned.wait(), model.first) for model in models.values()))
        from megavit.serve.http.app import make_app
        from megavit.serve.http.middleware import Guard

        guard = Guard(make_app(models, settings, metrics, room), settings, metrics, log)
        server = make_server(guard, settings, metrics, log)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _first_of(asyncio.gather(*(model.first for model in models.values())), stop.wait())
            if not stop.is_set():
                address = _address_of(listener)
                log("serving", address=address, models=list(models))
                ready(address)
                await stop.wait()
            guard.draining = True
            log("draining", requests=guard.active)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.timeout):
                    while guard.active:
                        await asyncio.sleep(0.02)
            await server.stop_listening(listener)
        finally:
            server.should_exit = True
            await serving
    finally:
        await asyncio.gather(*(model.close() for model in models.values()))
    log("ended")


def _stopped_by_signals(models: Mapping[str, ModelService], log: Log) -> asyncio.Event:
    """Set by the first signal; the second one ends everything."""
    stop = asyncio.Event()

    def stopped(number: int) -> None:
        if not stop.is_set():
            stop.set()
            return
        log("killed", signal=number)
        for model in models.values():
            model.kill()
        log.close()
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # whoever ignores one, as nohup does, means it
            asyncio.get_running_loop().add_signal_handler(number, stopped, number)
    return stop


@contextlib.contextmanager
def _listening(settings: Settings) -> Any:
    """A socket at the address. There may be as many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(family[4][:2], family=family[0], backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"nothing can listen on {settings.host}, port {settings.port}: {error.strerror}; choose another --host or "
            "--port (0 takes a free one)"
        ) from None
    with listener:
        yield listener


def _address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _first_of(*awaited: Awaitable[Any]) -> None:
    """Until one of them has ended, whose exception is raised."""
    tasks = [asyncio.ensure_future(one) for one in awaited]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        if not isinstance(awaited[tasks.index(task)], asyncio.Future):
            task.cancel()
    for task in done:
        task.result()
