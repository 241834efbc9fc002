"""`megavit embed`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from megavit.cli.options import BatchSize, Bundle, Device, ImageInputs, InferencePrecision, Json, Nproc, Verify
from megavit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from megavit.predict.predictor import Image


def embed(
    bundle: Bundle,
    images: ImageInputs,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="New .npz or .csv file for the embeddings; for shards also a folder.")
    ] = None,
    device: Device = "auto",
    precision: InferencePrecision = "float32",
    batch_size: BatchSize = 32,
    verify: Verify = False,
    nproc: Nproc = None,
    json: Json = False,
) -> int:
    """Compute embeddings: the model's feature vector of each image.

    For search, clustering or a classifier of your own: images that look alike
    to the model have a high cosine similarity. An .npz file holds the arrays
    path and embedding, and failed and error for images that cannot be read,
    which do not stop the others; the exit code is then 2. Shards are handled
    as by megavit predict.
    """
    from megavit.cli.console import notes
    from megavit.cli.launcher import telling_once
    from megavit.cli.shard_inference import answer_shards, check_images, local_device, shards_among, start_together
    from megavit.cli.writers.embeddings import VectorWriter, check_vectors
    from megavit.predict.input_sources import iter_images
    from megavit.predict.predictor import load
    from megavit.weights.bundle.bundle import INFO

    check_images(images, "embed")
    if out is None and not json:
        raise ConfigError("give --out FILE.npz or FILE.csv for the embeddings, or --json to print them")
    shards = shards_among(images, out, (".npz", ".csv"), nproc)
    done = start_together(nproc)
    if done is not None:
        return done
    if shards is None:
        check_vectors(out)

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
        if shards is not None and out is not None:
            made_of, files = {"embed": True, "precision": precision}, [predictor.folder / INFO]
            return answer_shards(shards, out, (".npz", ".csv"), made_of, files, answer)
    total, failed = answer(iter_images(images, sys.stdin.buffer), out)
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images)}")
    if out is not None:
        notes.print(f"{total - failed:,} embeddings of {predictor.model.config.dim} numbers in {out}")
    if failed:
        notes.print(f"{failed:,} of {total:,} images could not be read", style="yellow")
    return 2 if failed else 0
