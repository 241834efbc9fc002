"""Run the HTTP server in a thread of this process."""

import asyncio
import atexit
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from megavit.errors import MegavitError
from megavit.serving.server import serve
from megavit.serving.settings import Settings


class BackgroundServer:
    """A server that answers until it is closed, at the latest when Python exits; a context manager.

    Attributes:
        url: address of the server.
    """

    def __init__(self, sources: Sequence[tuple[str, str]], settings: Settings) -> None:
        """Start the server, and wait until all models are ready; for arguments and errors see `serve`."""
        self.url = ""
        self._error: MegavitError | None = None
        self._settled = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=[sources, settings], name="megavit-serve", daemon=True)
        self._thread.start()
        self._settled.wait()
        if not self.url:
            self._thread.join()
            raise self._error or RuntimeError("the server ended before it was ready: see the error above")
        atexit.register(self.close)

    def close(self) -> None:
        """Finish the requests in progress, and stop."""
        atexit.unregister(self.close)
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.url}{'' if self._thread.is_alive() else ', closed'}>"

    def _run(self, sources: Sequence[tuple[str, str]], settings: Settings) -> None:
        try:
            serve(sources, settings, self._on_ready, self._get_stop)
        except MegavitError as error:
            self._error = error
        finally:
            self._settled.set()

    def _get_stop(self) -> asyncio.Event:
        self._loop = asyncio.get_running_loop()
        return self._stop

    def _on_ready(self, url: str) -> None:
        self.url = url
        self._settled.set()
