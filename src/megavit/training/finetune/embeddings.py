"""Embed the images of a run once with a frozen model, so that a stopped run, and other commands, go on from there."""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from megavit.data.dataset import Sample
from megavit.engine.engine import Engine
from megavit.predict.embedding_files import EmbeddingFiles, SharedEmbeddings, embedding_key
from megavit.predict.forward import compute_embeddings
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader, short_batch_size, validation_batch_size
from megavit.training.loop.build import StartingModel
from megavit.training.setup.resolution import PASSES_IN_FLOAT32, choose_embedding_precision

# Largest time between two files.
WRITE_SECONDS = 3.0


class Embeddings:
    """The embeddings of images by the pretrained model of a run, computed when they are first asked for.

    The faster of two runtimes is used, and what other commands have computed, except in a run by epochs, which is to
    repeat to the bit. Matrices are multiplied in the precision of the run's training steps.

    Args:
        weights: fingerprint of the pretrained weights.

    Attributes:
        precision: precision of the matrix products.
        seconds: time that computing took in this run, also before a stop.
        elapsed: time of the run when the last embedding was written before a stop.
    """

    def __init__(self, ctx: RunContext, start: StartingModel, weights: str) -> None:
        self.ctx, self.start = ctx, start
        self.seconds = self.elapsed = 0.0
        self._rows: dict[str, Tensor] = {}
        self._unwritten: dict[str, Tensor] = {}
        self.precision = choose_embedding_precision(start.task.recipe, ctx.device)
        key = embedding_key(weights, start.model.config, start.task.preprocessing, self.precision)
        self._files = EmbeddingFiles(ctx.run_dir / "embeddings" / key, ctx.reporter.say)
        for rows, record in self._files.read():
            self._rows |= rows
            self.seconds = max(self.seconds, float(record["seconds"]))
            self.elapsed = max(self.elapsed, float(record["elapsed"]))
        self._engine = Engine(start.model, start.task.preprocessing, self.precision)
        self._shared: SharedEmbeddings | None = None
        if start.task.recipe.run.epochs:
            self._engine.patience = math.inf
        elif not ctx.dist.is_distributed:
            self._shared = SharedEmbeddings(
                weights, start.model.config, start.task.preprocessing, ctx.reporter.say, self.precision
            )

    @property
    def image_seconds(self) -> float:
        """The mean time that an image takes."""
        if self._shared and not self._rows:
            return self._shared.image_seconds
        return self.seconds / max(1, len(self._rows))

    @property
    def exact_image_seconds(self) -> float:
        """The mean time that an image takes in float32, as for the evaluation of a model."""
        return self.image_seconds * PASSES_IN_FLOAT32[self.precision]

    def count_missing(self, samples: Sequence[Sample]) -> int:
        """Return for how many of the samples there is no embedding yet."""
        shared = self._shared.rows if self._shared else {}
        return sum(sample.digest not in self._rows and sample.digest not in shared for sample in samples)

    def of(self, loader: TrainLoader) -> Tensor:
        """Return the embeddings (N, D) of a loader's images; several processes share the work and keep nothing."""
        if self.ctx.dist.is_distributed:
            return self._share(loader)
        digests = [sample.digest for sample in loader.images.samples]
        shared = self._shared.rows if self._shared else {}
        first = {digest: index for index, digest in reversed([*enumerate(digests)])}
        first = {digest: index for digest, index in first.items() if digest not in self._rows and digest not in shared}
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
        if self._shared and first:
            self._shared.add(self._rows, self.seconds)
        return torch.stack([self._rows[digest] if digest in self._rows else shared[digest] for digest in digests])

    def _share(self, loader: TrainLoader) -> Tensor:
        began = time.monotonic()
        model, preprocessing, dtype = self.start.model, self.start.task.preprocessing, self.start.task.dtype
        rows = loader.map(
            lambda batches: compute_embeddings(model, batches, preprocessing, dtype),
            self.ctx.parallel,
            validation_batch_size(model.config, self.ctx.device),
        )
        self.seconds += time.monotonic() - began
        self._rows |= zip((sample.digest for sample in loader.images.samples), rows, strict=True)
        return rows

    def _write(self) -> None:
        if self._unwritten:
            self._files.write(self._unwritten, seconds=self.seconds, elapsed=self.ctx.clock.elapsed)
            self._rows |= self._unwritten
            self._unwritten = {}
