"""`megavit embed`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from megavit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from megavit.predict.predictor import Image


def embed(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train or convert wrote, or hf-hub:USER/NAME.")],
    images: Annotated[
        list[str],
        Parameter(help="Files, folders, patterns, shards, or - for standard input.", allow_leading_hyphen=True),
    ],
    /,
    *,
    output: Annotated[
        Path | None, Parameter(help="New .npz or .csv file for the embeddings; of shards also a folder.")
    ] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, Parameter(help="float32, bfloat16 (faster, 3 digits), or int8 after quantize.")
    ] = "float32",
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 32,
    verify: Annotated[bool, Parameter(help="First check the bundle's reference outputs.", negative="")] = False,
    procs: Annotated[int | None, Parameter(help="Processes of this machine to share shards. Default: 1.")] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object a line.", negative="")] = False,
) -> int:
    """Turn images into vectors: what the model sees in them, before it names it.

    For search, clustering or a classifier of your own: images that look
    alike to the model have vectors of much the same direction. An .npz file
    holds path and embedding, and failed and error of the images that cannot
    be read; the others go on, and the exit code is then 2.
    Shards are answered for as by megavit predict.
    """
    from megavit.cli.console import notes
    from megavit.cli.launcher import telling_once
    from megavit.cli.shard_inference import answer_shards, check_images, local_device, shards_among, start_together
    from megavit.cli.writers.embeddings import VectorWriter, check_vectors
    from megavit.config.checks import check_range
    from megavit.predict.input_sources import iter_images
    from megavit.predict.predictor import load
    from megavit.weights.bundle.bundle import INFO

    check_range("batch-size", batch_size, 1, 100_000)
    check_images(images, "embed")
    if output is None and not json:
        raise ConfigError("give --output FILE.npz or FILE.csv for the embeddings, or --json to print them")
    shards = shards_among(images, output, (".npz", ".csv"), procs)
    done = start_together(procs)
    if done is not None:
        return done
    if shards is None:
        check_vectors(output)

    def answer(named: "Iterable[tuple[str, Image]]", place: Path | None) -> tuple[int, int]:
        total = failed = 0
        with VectorWriter(place, predictor.model.config.dim) as writer:
            for embedding in predictor.embed_stream(named, batch_size=batch_size):
                writer.write(embedding)
                total += 1
                failed += embedding.error is not None
        return total, failed

    with telling_once():
        predictor = load(bundle, device=local_device(device), precision=precision, verify=verify)
        if shards is not None and output is not None:
            made_of, files = {"embed": True, "precision": precision}, [predictor.folder / INFO]
            return answer_shards(shards, output, (".npz", ".csv"), made_of, files, answer)
    total, failed = answer(iter_images(images, sys.stdin.buffer), output)
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images)}")
    if output is not None:
        notes.print(f"{total - failed:,} embeddings of {predictor.model.config.dim} numbers in {output}")
    if failed:
        notes.print(f"{failed:,} of {total:,} images could not be read", style="yellow")
    return 2 if failed else 0
