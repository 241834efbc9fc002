"""Run the HTTP server from start to shutdown."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from megavit.serving.http.server import get_url, handle_signals, listen, make_server, run_loop
from megavit.serving.logging import JsonLinesHandler, log_event, start_logging
from megavit.serving.metrics import Metrics
from megavit.serving.request_body import ByteBudget
from megavit.serving.settings import Settings
from megavit.serving.workers.model_service import ModelService


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
    with listen(settings) as listener:
        if get_stop is not None:
            run_loop(_serve(sources, settings, on_ready, listener, lambda _: contextlib.nullcontext(get_stop())))
            return
        handler = start_logging()
        try:
            run_loop(_serve(sources, settings, on_ready, listener, lambda models: _handle_signals(models, handler)))
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
            from megavit.serving.http.overload import Overload

            app = ServerMiddleware(make_app(models, settings, metrics, budget), settings, metrics)
            first = next(iter(models.values()))
            overload = Overload(lambda images: None if app.draining else first.find_overload(images), metrics)
            server = make_server(app, settings, metrics, overload)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await _wait_for_first(asyncio.gather(*(model.first_ready for model in models.values())), stop.wait())
                if not stop.is_set():
                    url = get_url(listener)
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


def _handle_signals(
    models: Mapping[str, ModelService], handler: JsonLinesHandler
) -> AbstractContextManager[asyncio.Event]:
    def kill(number: int) -> None:
        log_event("killed", signal=number)
        for model in models.values():
            model.kill()
        handler.close()

    return handle_signals(kill)


async def _wait_for_first(*awaitables: Awaitable[Any]) -> None:
    """Wait until one awaitable is done, cancel the other tasks, and raise its exception if it has one."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        if not isinstance(awaitables[tasks.index(task)], asyncio.Future):
            task.cancel()
    for task in done:
        task.result()
