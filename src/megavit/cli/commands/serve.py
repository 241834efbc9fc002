"""`megavit serve`."""

import os
import sys
from typing import Annotated

from cyclopts import Parameter

KEY = "MEGAVIT_API_KEY"


def serve(
    models: Annotated[
        list[str], Parameter(help="Folders that train, convert or export wrote, hf-hub:USER/NAME, or NAME=FOLDER.")
    ],
    /,
    *,
    host: Annotated[str, Parameter(help="To listen on; 127.0.0.1 is reached from this machine alone.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="0 takes a free one.")] = 8000,
    batch_size: Annotated[int, Parameter(help="Images at a time, at most.")] = 32,
    queue: Annotated[int, Parameter(help="Images accepted and not yet answered, at most, for each model.")] = 128,
    max_body: Annotated[float, Parameter(help="MiB of a request.")] = 32,
    max_pixels: Annotated[float, Parameter(help="Millions of an image.")] = 50,
    read_timeout: Annotated[float, Parameter(help="Seconds in which a request must have arrived.")] = 10,
    timeout: Annotated[float, Parameter(help="Seconds in which it is answered, or refused.")] = 30,
    load_timeout: Annotated[float, Parameter(help="Seconds in which a model must be loaded.")] = 300,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, Parameter(help="float32, bfloat16 (faster, 3 digits), or int8 after quantize.")
    ] = "float32",
    keep_aspect: Annotated[
        bool, Parameter(help="Keep images' aspect, also where training did not.", negative="")
    ] = False,
    json: Annotated[bool, Parameter(help="Print the address as a JSON object.", negative="")] = False,
) -> int:
    """Answer over HTTP, and show a page to drop pictures on, until Ctrl-C.

    POST an image to /predict, or to /models/NAME/predict; /openapi.json says
    the rest. The log goes to standard error, one JSON object a line. With
    MEGAVIT_API_KEY in the environment requests must carry that key. A bundle
    that is replaced while it is served is taken over without a pause.
    """
    from megavit.serve.model_sources import named_sources
    from megavit.serve.server import serve as run
    from megavit.serve.settings import Settings

    settings = Settings(
        host=host,
        port=port,
        batch_size=batch_size,
        queue=queue,
        max_body=round(max_body * 2**20),
        max_pixels=round(max_pixels * 10**6),
        read_timeout=read_timeout,
        timeout=timeout,
        load_timeout=load_timeout,
        device=device,
        precision=precision,
        keep_aspect=keep_aspect,
        api_key=os.environ.get(KEY) or None,
    )
    sources = named_sources(models)

    def ready(address: str) -> None:
        from json import dumps

        names = [name for name, _ in sources]
        told = dumps({"address": address, "models": names}) if json else f"{', '.join(names)} at {address}"
        sys.stdout.write(told + "\n")
        sys.stdout.flush()

    run(sources, settings, ready)
    return 0
