"""Keep embeddings of images in files: those of a run in its folder, and those that commands share in the cache.

FOLDER/NAME.safetensors   embeddings of some images; the metadata has the images' digests

A folder is that of one model and preprocessing, so that an image's digest identifies its embedding.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.config.serialization import parse_json
from megavit.config.vit import ViTConfig
from megavit.engine.engine import Precision
from megavit.errors import ConfigError, OutputError
from megavit.runtime.cache import cache_folder
from megavit.runtime.storage import writing
from megavit.weights.bundle.safetensors_io import write_tensors

MAX_SHARED_BYTES = 2**30
"""Size of the shared embeddings of all models, above which the oldest files are deleted."""


def embedding_key(
    weights: str, config: ViTConfig, preprocessing: Preprocessing, precision: Precision = "float32"
) -> str:
    """Return a key of a frozen model without its head, by the fingerprint of its weights, and of what it computes."""
    design = replace(config.design, drop_path=0.0, patch_drop=0.0)
    frozen = replace(config, image_size=config.image_hw, num_classes=0, dropout=0.0, emb_dropout=0.0, design=design)
    return hashlib.sha256(repr((weights, frozen, preprocessing, precision)).encode()).hexdigest()[:16]


class EmbeddingFiles:
    """The files of embeddings in a folder, which need not exist.

    Args:
        say: function that is called with a sentence on each damaged file.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say

    def read(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
        """Yield the embeddings of each intact file by the images' digests, with what was recorded beside them."""
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, "pt") as file:
                    rows = file.get_tensor("embeddings")
                    record = parse_json((file.metadata() or {})["record"].encode(), str(path))
                found = dict(zip(record["digests"], rows, strict=True))
            except FileNotFoundError:  # deleted by another process
                continue
            except (ConfigError, KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
                self.say(f"the embeddings in {path} are damaged, and are computed again: {error}")
            else:
                yield found, record

    def write(self, rows: Mapping[str, Tensor], **record: float) -> None:
        """Write the embeddings of images by their digests to a new file, or raise an OutputError."""
        with writing("the embeddings", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            metadata = {"record": json.dumps({"digests": [*rows]} | record)}
            path = self.folder / f"{secrets.token_hex(8)}.safetensors"
            write_tensors(path, {"embeddings": torch.stack([*rows.values()])}, metadata)


class SharedEmbeddings:
    """The embeddings by a frozen model that commands on this machine share; none if the cache is not a folder.

    Args:
        weights: fingerprint of the model's weights.
        config: the model's config, of which the head does not matter.
        precision: precision in which they are computed; those in another are not shared.

    Attributes:
        rows: the embeddings (D,) by digest that were there when this object was made.
        image_seconds: mean time that computing one of them took; 0.0 without any.
    """

    def __init__(
        self,
        weights: str,
        config: ViTConfig,
        preprocessing: Preprocessing,
        say: Callable[[str], None],
        precision: Precision = "float32",
    ) -> None:
        self._root = cache_folder() / "embeddings"
        self._files = EmbeddingFiles(self._root / embedding_key(weights, config, preprocessing, precision), say)
        self._is_kept = cache_folder().is_dir() or not cache_folder().exists()
        self.rows: dict[str, Tensor] = {}
        seconds = 0.0
        for rows, record in self._files.read():
            self.rows |= rows
            seconds += float(record.get("seconds", 0.0))
        self.image_seconds = seconds / max(1, len(self.rows))

    def add(self, rows: Mapping[str, Tensor], seconds: float) -> None:
        """Keep embeddings that took `seconds` to compute, as far as they are new; if that fails, say so."""
        new = {digest: row for digest, row in rows.items() if digest not in self.rows}
        if not new or not self._is_kept:
            return
        try:
            self._files.write(new, seconds=seconds * len(new) / len(rows))
            self.rows |= new
            self._delete_oldest()
        except OutputError as error:
            self._files.say(f"other commands will compute these embeddings again: {error}")

    def _delete_oldest(self) -> None:
        files = []
        for path in self._root.glob("*/*.safetensors"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        kept = 0
        for _, size, path in sorted(files, reverse=True):
            kept += size
            if kept > MAX_SHARED_BYTES:
                with suppress(FileNotFoundError):
                    path.unlink()
