"""Serve models over HTTP from Python."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypedDict, Unpack, overload

from megavit.errors import ConfigError
from megavit.serving.background import BackgroundServer
from megavit.serving.model_sources import parse_sources
from megavit.serving.server import serve as run_server
from megavit.serving.settings import Precision, Settings

KEY = "MEGAVIT_API_KEY"

Source = str | os.PathLike[str]
Models = Source | Sequence[Source] | Mapping[str, Source]
OnReady = Callable[[str, Sequence[str]], None]


class ServeOptions(TypedDict, total=False):
    """The settings of a server, whose defaults are those of `megavit.serving.settings.Settings`."""

    host: str
    port: int
    max_batch_size: int
    queue_size: int
    max_request_mib: float
    max_megapixels: float
    read_timeout: float
    timeout: float
    load_timeout: float
    device: str
    precision: Precision
    keep_aspect: bool
    api_key: str | None


@overload
def serve(
    models: Models, *, background: Literal[True], on_ready: OnReady | None = ..., **options: Unpack[ServeOptions]
) -> BackgroundServer: ...
@overload
def serve(
    models: Models,
    *,
    background: Literal[False] = ...,
    on_ready: OnReady | None = ...,
    **options: Unpack[ServeOptions],
) -> None: ...
def serve(
    models: Models, *, background: bool = False, on_ready: OnReady | None = None, **options: Unpack[ServeOptions]
) -> BackgroundServer | None:
    """Serve models over HTTP, with a web page to drop images on.

    Without `background`, as `megavit serve` does: until Ctrl-C or SIGTERM, with a log of JSON lines on standard error.
    With it, at once returns a server, when its models are ready:

        with megavit.serve(run, port=0, background=True) as server:
            print(server.url)

    Args:
        models: bundle, `Run` or `Export`, a list of them, or a dictionary of names and them.
        background: whether to serve in a thread of this process, and return.
        on_ready: called with the URL and the names of the models when all are ready.
        options: host and port (127.0.0.1, which can be reached from this machine only, and 8000; 0 picks a free one);
            max_batch_size: images per batch (32); queue_size: images waiting or in progress, per model (128);
            max_request_mib: size of a request in MiB (32); max_megapixels: size of an image in millions of pixels (50);
            read_timeout, timeout, load_timeout: seconds within which a request must have arrived (10), is answered or
            refused (30), and a model must have loaded (300); device, precision, keep_aspect: as for `megavit.load`;
            api_key: key that requests must carry (that of the environment variable MEGAVIT_API_KEY, if it is set).

    Raises:
        ConfigError: if settings are invalid, the server cannot listen on the address, or it must be in the background.
        BundleError: if a model cannot be served.
    """
    settings = Settings(**options)
    settings = replace(settings, api_key=settings.api_key or os.environ.get(KEY) or None)
    sources = parse_sources(_list_arguments(models))
    names = [name for name, _ in sources]
    if background:
        server = BackgroundServer(sources, settings)
        if on_ready is not None:
            on_ready(server.url, names)
        return server
    if _has_running_loop():
        raise ConfigError("a server cannot block here, as in a notebook, where an event loop runs: add background=True")
    run_server(sources, settings, lambda url: None if on_ready is None else on_ready(url, names))
    return None


def _list_arguments(models: Models) -> list[str]:
    """Return the models as on the command line: FOLDER or NAME=FOLDER."""
    if isinstance(models, str | os.PathLike):
        return [os.fspath(models)]
    if isinstance(models, Mapping):
        return [f"{name}={os.fspath(source)}" for name, source in models.items()]
    return [os.fspath(source) for source in models]


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
