"""The command `megavit serve`."""

import sys
from collections.abc import Sequence

from megavit.cli.options import Device, InferencePrecision, Json, KeepAspect


def serve(
    models: list[str],
    /,
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
    device: Device = "auto",
    precision: InferencePrecision = "float32",
    keep_aspect: KeepAspect = False,
    json: Json = False,
) -> int:
    """Serve models over HTTP, with a web page to drop images on.

    POST an image to /predict or to /models/NAME/predict; /openapi.json has the
    full schema. The log goes to standard error, one JSON object per line. If
    the environment variable MEGAVIT_API_KEY is set, requests must carry that
    key. A bundle that is replaced on disk is reloaded without downtime. Ctrl-C
    finishes the requests in progress and stops.

    Args:
        models: Folders written by megavit train, convert or export, hf-hub:USER/NAME, or NAME=FOLDER.
        host: Address to listen on; 127.0.0.1 can be reached from this machine only.
        port: Port to listen on; 0 picks a free one.
        max_batch_size: Maximum number of images per batch.
        queue_size: Maximum number of images waiting or in progress, per model.
        max_request_mib: Maximum size of a request in MiB.
        max_megapixels: Maximum size of an image in millions of pixels.
        read_timeout: Seconds within which a request must have arrived.
        timeout: Seconds within which a request is answered or refused.
        load_timeout: Seconds within which a model must have loaded.
    """
    from megavit.api import serve as api

    def on_ready(url: str, names: Sequence[str]) -> None:
        from json import dumps

        line = dumps({"url": url, "models": list(names)}) if json else f"{', '.join(names)} at {url}"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    api.serve(
        models,
        host=host,
        port=port,
        max_batch_size=max_batch_size,
        queue_size=queue_size,
        max_request_mib=max_request_mib,
        max_megapixels=max_megapixels,
        read_timeout=read_timeout,
        timeout=timeout,
        load_timeout=load_timeout,
        device=device,
        precision=precision,
        keep_aspect=keep_aspect,
        on_ready=on_ready,
    )
    return 0
