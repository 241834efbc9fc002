"""Keep the embeddings of many images in one file, and find those that are most similar to others."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from megavit.config.serialization import parse_json
from megavit.errors import BundleError, ConfigError
from megavit.predict.embedding_files import SharedEmbeddings, embedding_key
from megavit.predict.predictor import Predictor
from megavit.runtime.storage import writing
from megavit.weights.bundle.safetensors_io import write_tensors

FORMAT = 1
HEAD = "mlp_head."
COLUMNS = ("name", "label", "split", "stamp")
MAX_COSINES = 2**24
"""Number of cosines that are in memory at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedImage:
    """An image of an index.

    Attributes:
        name: path of the image, or its name in a data set without files.
        label: name of its class, or its labels or score as text; "" if unknown.
        split: "train", "val" or "test"; "" if unknown.
        stamp: text that changes with the content, such as a digest.
    """

    name: str
    label: str = ""
    split: str = ""
    stamp: str


@dataclass(frozen=True)
class EmbeddingIndex:
    """Images and their float32 embeddings (N, D) by one model, of which `model_key` is a fingerprint."""

    images: tuple[IndexedImage, ...]
    vectors: Tensor
    model_key: str

    def nearest(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the indices (Q, count) of the images most similar to embeddings (Q, D), and their cosines.

        Every image is compared: for 100,000 of them this takes less time than to compute one embedding
        (docs/benchmarks.md).
        """
        count = min(count, len(self.images))
        unit = F.normalize(queries, dim=1)
        found = [
            (rows @ self.vectors.T / self._lengths).topk(count, dim=1)
            for rows in unit.split(max(1, MAX_COSINES // max(1, len(self.images))))
        ]
        return torch.cat([top.indices for top in found]), torch.cat([top.values for top in found])

    @cached_property
    def _lengths(self) -> Tensor:
        return self.vectors.norm(dim=1).clamp_min(1e-12)


def share_embeddings(predictor: Predictor, say: Callable[[str], None]) -> SharedEmbeddings:
    """Return the embeddings by a bundle's model that commands on this machine share, whatever its head."""
    weights, config = fingerprint_weights(predictor), predictor.model.config
    return SharedEmbeddings(weights, config, predictor.info.preprocessing, say)


def features_key(predictor: Predictor) -> str:
    """Return a key of everything that the embeddings of a bundle depend on, without the head."""
    return embedding_key(fingerprint_weights(predictor), predictor.model.config, predictor.info.preprocessing)


def fingerprint_weights(predictor: Predictor) -> str:
    """Return a hex SHA-256 of the weights without the head."""
    hasher = hashlib.sha256()
    for name, tensor in predictor.model.state_dict().items():
        if not name.startswith(HEAD):
            hasher.update(name.encode())
            hasher.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()


def write_index(path: Path, index: EmbeddingIndex) -> None:
    """Write an index to a safetensors file atomically, or raise an OutputError."""
    columns = {name: [getattr(image, name) for image in index.images] for name in COLUMNS}
    record = {"format": FORMAT, "model_key": index.model_key, "images": columns}
    with writing("the index", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {"embeddings": index.vectors}, {"record": json.dumps(record)})


def read_index(path: Path) -> EmbeddingIndex | None:
    """Return the index in a file; None if there is none.

    Raises:
        BundleError: if the file is damaged or something else.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            vectors = file.get_tensor("embeddings")
            record = parse_json((file.metadata() or {})["record"].encode(), str(path))
        columns = [record["images"][name] for name in COLUMNS]
        images = tuple(IndexedImage(**dict(zip(COLUMNS, row, strict=True))) for row in zip(*columns, strict=True))
        if record["format"] != FORMAT or vectors.ndim != 2 or len(vectors) != len(images):
            raise ValueError(f"format {record['format']}, {len(images)} images and {tuple(vectors.shape)} embeddings")
        return EmbeddingIndex(images, vectors, str(record["model_key"]))
    except (ConfigError, KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is not an index, or is damaged: delete it, and it is made again ({error})") from None
