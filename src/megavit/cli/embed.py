"""`megavit embed`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.errors import ConfigError


def embed(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train or convert wrote, or hf-hub:USER/NAME.")],
    images: Annotated[
        list[str], Parameter(help="Files, folders, patterns, or - for standard input.", allow_leading_hyphen=True)
    ],
    /,
    *,
    output: Annotated[Path | None, Parameter(help="New .npz or .csv file for the embeddings.")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, Parameter(help="float32, bfloat16 (faster, 3 digits), or int8 after quantise.")
    ] = "float32",
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 32,
    verify: Annotated[bool, Parameter(help="First check the bundle's golden answers.", negative="")] = False,
    json: Annotated[bool, Parameter(help="Print one JSON object a line.", negative="")] = False,
) -> int:
    """Turn images into vectors: what the model sees in them, before it names it.

    For search, clustering or a classifier of your own: images that look
    alike to the model have vectors of much the same direction. An .npz file
    holds path and embedding, and failed and error of the images that cannot
    be read; the others go on, and the exit code is then 2.
    """
    from megavit.cli.images import check_images
    from megavit.cli.output import notes
    from megavit.cli.vectors import VectorWriter, check_vectors
    from megavit.config.checks import check_range
    from megavit.predict.inputs import images_named
    from megavit.predict.predictor import load

    check_range("batch-size", batch_size, 1, 100_000)
    check_images(images, "embed")
    if output is None and not json:
        raise ConfigError("give --output FILE.npz or FILE.csv for the embeddings, or --json to print them")
    check_vectors(output)
    predictor = load(bundle, device=device, precision=precision, verify=verify)
    failed = total = 0
    with VectorWriter(output, predictor.model.config.dim) as writer:
        for embedding in predictor.embed_stream(images_named(images, sys.stdin.buffer), batch_size=batch_size):
            writer.write(embedding)
            total += 1
            failed += embedding.error is not None
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images)}")
    if output is not None:
        notes.print(f"{total - failed:,} embeddings of {predictor.model.config.dim} numbers in {output}")
    if failed:
        notes.print(f"{failed:,} of {total:,} images could not be read", style="yellow")
    return 2 if failed else 0
