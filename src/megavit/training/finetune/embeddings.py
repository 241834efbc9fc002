"""Embed images with a frozen model once, and keep the embeddings in a folder so that a stopped run goes on from them.

FOLDER/00000.safetensors   embeddings of some images; the metadata has the images' digests

The folder is that of one model and preprocessing, so that an image's digest identifies its embedding.
"""

import hashlib
import json
import math
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from megavit.config.serialization import parse_json
from megavit.engine.engine import Engine
from megavit.errors import ConfigError
from megavit.predict.forward import compute_embeddings
from megavit.runtime.storage import writing
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader, short_batch_size
from megavit.training.loop.build import StartingModel
from megavit.weights.bundle.safetensors_io import write_tensors

# Largest time between two files.
WRITE_SECONDS = 3.0


class Embeddings:
    """The embeddings of images by the pretrained model of a run, computed when they are first asked for.

    The faster of two runtimes is used, except in a run by epochs, which is to repeat to the bit.

    Args:
        weights: fingerprint of the pretrained weights.

    Attributes:
        seconds: time that computing took, also before a stop.
        elapsed: time of the run when the last embedding was written before a stop.
    """

    def __init__(self, ctx: RunContext, start: StartingModel, weights: str) -> None:
        self.ctx, self.start = ctx, start
        key = hashlib.sha256(repr((weights, start.model.config, start.task.preprocessing)).encode()).hexdigest()[:16]
        self.folder = ctx.run_dir / "embeddings" / key
        self.seconds = self.elapsed = 0.0
        self._rows: dict[str, Tensor] = {}
        self._unwritten: dict[str, Tensor] = {}
        self._engine = Engine(start.model, start.task.preprocessing)
        if start.task.recipe.run.epochs:
            self._engine.patience = math.inf
        self._read()

    @property
    def image_seconds(self) -> float:
        """The mean time that an image took."""
        return self.seconds / max(1, len(self._rows))

    def of(self, loader: TrainLoader) -> Tensor:
        """Return the embeddings (N, D) of a loader's images; several processes share the work and keep nothing."""
        if self.ctx.dist.is_distributed:
            return self._share(loader)
        digests = [sample.digest for sample in loader.images.samples]
        first = {digest: index for index, digest in reversed([*enumerate(digests)]) if digest not in self._rows}
        missing = sorted(first.values())
        size = short_batch_size(self.start.model.config, self.ctx.device)
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        done, written_at = len(digests) - len(missing), time.monotonic()
        try:
            began = time.monotonic()
            for indices, (images, _) in zip(batches, loader.batches(iter(batches)), strict=True):
                rows = self._engine(images).pooled
                self._unwritten |= zip([digests[index] for index in indices], rows, strict=True)
                now = time.monotonic()
                self.seconds, began = self.seconds + now - began, now
                done += len(indices)
                self.ctx.reporter.progress("embedding images", done, len(digests))
                if now - written_at > WRITE_SECONDS:
                    self._write()
                    written_at = time.monotonic()
        finally:  # also when a signal stops the run
            self._write()
        return torch.stack([self._rows[digest] for digest in digests])

    def _share(self, loader: TrainLoader) -> Tensor:
        began = time.monotonic()
        model, preprocessing = self.start.model, self.start.task.preprocessing
        rows = loader.map(lambda batches: compute_embeddings(model, batches, preprocessing), self.ctx.parallel)
        self.seconds += time.monotonic() - began
        self._rows |= zip((sample.digest for sample in loader.images.samples), rows, strict=True)
        return rows

    def _write(self) -> None:
        if not self._unwritten:
            return
        new, self._unwritten = self._unwritten, {}
        self._rows |= new
        record = {"digests": [*new], "seconds": self.seconds, "elapsed": self.ctx.clock.elapsed}
        with writing("the embeddings", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{len(self._files()):05}.safetensors"
            write_tensors(path, {"embeddings": torch.stack([*new.values()])}, {"record": json.dumps(record)})

    def _read(self) -> None:
        """Read what an earlier process has written; a damaged file is reported, and its images are embedded again."""
        for path in self._files():
            try:
                with safe_open(path, "pt") as file:
                    rows = file.get_tensor("embeddings")
                    record = parse_json((file.metadata() or {})["record"].encode(), str(path))
                self._rows |= zip(record["digests"], rows, strict=True)
                self.seconds = max(self.seconds, float(record["seconds"]))
                self.elapsed = max(self.elapsed, float(record["elapsed"]))
            except (ConfigError, KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
                self.ctx.reporter.say(f"the embeddings in {path} are damaged, and are computed again: {error}")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))
