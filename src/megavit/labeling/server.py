"""Run the server of the labeling page, on this machine only."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

from megavit.labeling.access import TokenAccess
from megavit.labeling.app import make_app
from megavit.labeling.session import LabelingSession
from megavit.serving.http.middleware import ServerMiddleware
from megavit.serving.http.server import get_url, handle_signals, listen, make_server, run_loop
from megavit.serving.logging import start_logging
from megavit.serving.metrics import Metrics
from megavit.serving.settings import Settings

HOST = "127.0.0.1"


def serve_page(
    session: LabelingSession,
    port: int,
    on_ready: Callable[[str], None],
    get_stop: Callable[[], asyncio.Event] | None = None,
) -> None:
    """Serve the page of a session until a stop signal; errors of the server itself go to standard error.

    Args:
        port: port to listen on; 0 picks a free one.
        on_ready: called with the page's address, which has a new token.
        get_stop: called in the event loop, for an event that stops the server in place of signals, and without output.
            None in a process of its own.

    Raises:
        ConfigError: if the server cannot listen on the port.
    """
    settings, metrics, token = Settings(host=HOST, port=port), Metrics(), secrets.token_urlsafe(24)
    app = ServerMiddleware(TokenAccess(make_app(session), token), settings, metrics)

    async def run(listener: socket.socket, get_stopping: Callable[[], AbstractContextManager[asyncio.Event]]) -> None:
        with get_stopping() as stop:
            server = make_server(app, settings, metrics)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                while not server.started and not serving.done():
                    await asyncio.sleep(0.01)
                on_ready(f"{get_url(listener)}/{token}/")
                await stop.wait()
            finally:
                server.should_exit = True
                await serving

    with listen(settings) as listener:
        if get_stop is not None:
            run_loop(run(listener, lambda: contextlib.nullcontext(get_stop())))
            return
        with contextlib.closing(start_logging()) as log:
            log.addFilter(lambda record: record.name != "megavit.serving" or record.msg == "error")
            run_loop(run(listener, lambda: handle_signals(lambda _number: None)))
