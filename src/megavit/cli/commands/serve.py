"""The command `megavit serve`."""

import sys
from collections.abc import Sequence

from megavit.cli.options import Device, InferencePrecision, Json, KeepAspect
from megavit.serving.settings import Settings


def serve(
    models: list[str],
    /,
    *,
    host: str = Settings.host,
    port: int = Settings.port,
    max_batch_size: int = Settings.max_batch_size,
    queue_size: int = Settings.queue_size,
    max_request_mib: float = Settings.max_request_mib,
    max_megapixels: float = Settings.max_megapixels,
    read_timeout: float = Settings.read_timeout,
    timeout: float = Settings.timeout,
    load_timeout: float = Settings.load_timeout,
    device: Device = Settings.device,
    precision: InferencePrecision = Settings.precision,
    keep_aspect: KeepAspect = Settings.keep_aspect,
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
