"""`megavit serve`."""

import os
import sys
from typing import Annotated

from cyclopts import Parameter

from megavit.cli.options import Device, InferencePrecision, Json, KeepAspect

KEY = "MEGAVIT_API_KEY"


def serve(
    models: Annotated[
        list[str],
        Parameter(help="Folders written by megavit train, convert or export, hf-hub:USER/NAME, or NAME=FOLDER."),
    ],
    /,
    *,
    host: Annotated[
        str, Parameter(help="Address to listen on; 127.0.0.1 can be reached from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 picks a free one.")] = 8000,
    max_batch_size: Annotated[int, Parameter(help="Maximum number of images per batch.")] = 32,
    queue_size: Annotated[int, Parameter(help="Maximum number of images waiting or in progress, per model.")] = 128,
    max_request_mib: Annotated[float, Parameter(help="Maximum size of a request in MiB.")] = 32,
    max_megapixels: Annotated[float, Parameter(help="Maximum size of an image in millions of pixels.")] = 50,
    read_timeout: Annotated[float, Parameter(help="Seconds within which a request must have arrived.")] = 10,
    timeout: Annotated[float, Parameter(help="Seconds within which a request is answered or refused.")] = 30,
    load_timeout: Annotated[float, Parameter(help="Seconds within which a model must have loaded.")] = 300,
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
    """
    from megavit.serve.model_sources import parse_sources
    from megavit.serve.server import serve as run
    from megavit.serve.settings import Settings

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
        api_key=os.environ.get(KEY) or None,
    )
    sources = parse_sources(models)

    def ready(address: str) -> None:
        from json import dumps

        names = [name for name, _ in sources]
        told = dumps({"address": address, "models": names}) if json else f"{', '.join(names)} at {address}"
        sys.stdout.write(told + "\n")
        sys.stdout.flush()

    run(sources, settings, ready)
    return 0
