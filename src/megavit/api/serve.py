"""Serve models over HTTP from Python."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, overload

from megavit.errors import ConfigError
from megavit.serving.background import BackgroundServer
from megavit.serving.model_sources import parse_sources
from megavit.serving.server import serve as run_server
from megavit.serving.settings import Settings

KEY = "MEGAVIT_API_KEY"

Source = str | os.PathLike[str]
Models = Source | Sequence[Source] | Mapping[str, Source]
OnReady = Callable[[str, Sequence[str]], None]


@overload
def serve(
    models: Models,
    *,
    host: str = ...,
    port: int = ...,
    max_batch_size: int = ...,
    queue_size: int = ...,
    max_request_mib: float = ...,
    max_megapixels: float = ...,
    read_timeout: float = ...,
    timeout: float = ...,
    load_timeout: float = ...,
    device: str = ...,
    precision: str = ...,
    keep_aspect: bool = ...,
    api_key: str | None = ...,
    on_ready: OnReady | None = ...,
    background: Literal[True],
) -> BackgroundServer: ...
@overload
def serve(
    models: Models,
    *,
    host: str = ...,
    port: int = ...,
    max_batch_size: int = ...,
    queue_size: int = ...,
    max_request_mib: float = ...,
    max_megapixels: float = ...,
    read_timeout: float = ...,
    timeout: float = ...,
    load_timeout: float = ...,
    device: str = ...,
    precision: str = ...,
    keep_aspect: bool = ...,
    api_key: str | None = ...,
    on_ready: OnReady | None = ...,
    background: Literal[False] = ...,
) -> None: ...
def serve(
    models: Models,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_batch_size: int = 32,
    queue_size: int = 128,
    max_request_mib: float = 32,
    max_megapixels: float = 50,
    read_timeout: float = 10,
    timeout: float = 30,
    load_timeout: float = 300,
    device: str = "auto",
    precision: str = "float32",
    keep_aspect: bool = False,
    api_key: str | None = None,
    background: bool = False,
    on_ready: OnReady | None = None,
) -> BackgroundServer | None:
    """Serve models over HTTP, with a web page to drop images on.

    Without `background`, as `megavit serve` does: until Ctrl-C or SIGTERM, with a log of JSON lines on standard error.
    With it, at once returns a server, when its models are ready:

        with megavit.serve(run, port=0, background=True) as server:
            print(server.url)

    Args:
        models: bundle, `Run` or `Export`, a list of them, or a dictionary of names and them.
        host: address to listen on; 127.0.0.1 can be reached from this machine only.
        port: port to listen on; 0 picks a free one.
        max_batch_size: maximum number of images per batch.
        queue_size: maximum number of images waiting or in progress, per model.
        max_request_mib: maximum size of a request in MiB.
        max_megapixels: maximum size of an image in millions of pixels.
        read_timeout: seconds within which a request must have arrived.
        timeout: seconds within which a request is answered or refused.
        load_timeout: seconds within which a model must have loaded.
        device, precision, keep_aspect: as for `megavit.load`.
        api_key: key that requests must carry; None for that of the environment variable MEGAVIT_API_KEY, if it is set.
        background: whether to serve in a thread of this process, and return.
        on_ready: called with the URL and the names of the models when all are ready.

    Raises:
        ConfigError: if settings are invalid, the server cannot listen on the address, or it must be in the background.
        BundleError: if a model cannot be served.
    """
    settings = Settings(
        host=host,
        port=port,
        max_batch_size=max_batch_size,
        queue_size=queue_size,
        max_request_bytes=round(max_request_mib * 2**20),
        max_pixels=round(max_megapixels * 10**6),
        read_timeout=read_timeout,
        timeout=timeout,
        load_timeout=load_timeout,
        device=device,
        precision=precision,
        keep_aspect=keep_aspect,
        api_key=api_key or os.environ.get(KEY) or None,
    )
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
