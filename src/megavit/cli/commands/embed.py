"""The command `megavit embed`."""

from pathlib import Path
from typing import TYPE_CHECKING

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
    out: Path | None = None,
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

    Args:
        out: New .npz or .csv file for the embeddings; for shards also a folder.
    """
    from megavit.cli.shard_inference import InferenceCommand, InferenceModel, local_device, write_all
    from megavit.cli.writers.embeddings import EmbeddingWriter
    from megavit.predict.predictor import load
    from megavit.weights.bundle.bundle import INFO

    command = InferenceCommand(
        name="embed", images=images, out=out, nproc=nproc, suffixes=(".npz", ".csv"), what="embeddings"
    )
    if out is None and not json:
        raise ConfigError("pass --out FILE.npz or FILE.csv for the embeddings, or --json to print them")

    def load_model() -> InferenceModel:
        predictor = load(bundle, device=local_device(device), precision=precision, verify=verify)
        dim = predictor.info.model.pooled_dim

        def write(named: "Iterable[tuple[str, Image]]", path: Path | None) -> tuple[int, int]:
            return write_all(EmbeddingWriter(path, dim), predictor.embed_stream(named, batch_size=batch_size))

        def describe(total: int, failed: int) -> str:
            return f"{total - failed:,} embeddings of {dim} numbers"

        settings = {"embed": True, "precision": precision}
        return InferenceModel(write, settings, [predictor.folder / INFO], describe)

    return command.run(load_model)
