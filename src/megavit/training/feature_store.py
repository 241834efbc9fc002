"""Keep rows of features in a folder, from which a stopped run goes on.

FOLDER/00000.safetensors   rows of some images; the metadata has their keys

The folder is that of one model and preparation of images, so that a key, such as an image's digest, identifies a row.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from megavit.config.serialization import parse_json
from megavit.errors import ConfigError
from megavit.runtime.storage import writing
from megavit.weights.bundle.safetensors_io import write_tensors

# Largest time between two files.
WRITE_SECONDS = 3.0


class FeatureStore:
    """Rows of features by key, read from a folder and written to it.

    A damaged file is reported with `say`, and its rows are missing.

    Attributes:
        rows: rows in the folder, by key.
        seconds: time that computing them took, also before a stop.
        elapsed: time of the run when the last row was written before a stop.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.seconds = self.elapsed = 0.0
        self.rows: dict[str, Tensor] = {}
        self._unwritten: dict[str, Tensor] = {}
        self._written_at = time.monotonic()
        self._read(say)

    def add(self, keys: Sequence[str], rows: Tensor, seconds: float) -> None:
        """Add the rows (N, D) of `keys`, which took `seconds` to compute; `write` writes them."""
        if not self._unwritten:
            self._written_at = time.monotonic() - seconds
        self._unwritten |= zip(keys, rows, strict=True)
        self.seconds += seconds

    @property
    def is_due(self) -> bool:
        """Whether the oldest row that is not written has waited for long enough."""
        return bool(self._unwritten) and time.monotonic() - self._written_at > WRITE_SECONDS

    def write(self, elapsed: float) -> None:
        """Write what was added, `elapsed` seconds after the run began, or raise OutputError."""
        if not self._unwritten:
            return
        new, self._unwritten = self._unwritten, {}
        self.rows |= new
        record = {"digests": [*new], "seconds": self.seconds, "elapsed": elapsed}
        with writing("the embeddings", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{len(self._files()):05}.safetensors"
            write_tensors(path, {"embeddings": torch.stack([*new.values()])}, {"record": json.dumps(record)})

    def _read(self, say: Callable[[str], None]) -> None:
        for path in self._files():
            try:
                with safe_open(path, "pt") as file:
                    rows = file.get_tensor("embeddings")
                    record = parse_json((file.metadata() or {})["record"].encode(), str(path))
                self.rows |= zip(record["digests"], rows, strict=True)
                self.seconds = max(self.seconds, float(record["seconds"]))
                self.elapsed = max(self.elapsed, float(record["elapsed"]))
            except (ConfigError, KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
                say(f"the embeddings in {path} are damaged, and are computed again: {error}")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))
