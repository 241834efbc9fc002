"""The server from its start to its end."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import uvloop

from megavit.errors import ConfigError
from megavit.serve.log import Log
from megavit.serve.metrics import Metrics
from megavit.serve.room import Room
from megavit.serve.served import ServedModel
from megavit.serve.settings import Settings

_BACKLOG = 2048
_MOST_FILES = 65_536


def serve(sources: Sequence[tuple[str, str]], settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve models until a SIGTERM or SIGINT, answer what was accepted, and come back; a second signal ends at once.

    Args:
        sources: (name, folder or hf-hub:USER/NAME) of each, as `megavit.serve.sources.named_sources` gives them.
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
    models = {name: ServedModel(name, source, settings, metrics, log, room) for name, source in sources}
    stop = _stopped_by_signals(models, log)
    try:
        # The workers import and load while we import ourselves.
        await asyncio.gather(*(_first_of(model.spawned.wait(), model.first) for model in models.values()))
        from megavit.serve.app import make_app
        from megavit.serve.guard import Guard
        from megavit.serve.http_server import make_server

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


def _stopped_by_signals(models: Mapping[str, ServedModel], log: Log) -> asyncio.Event:
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
