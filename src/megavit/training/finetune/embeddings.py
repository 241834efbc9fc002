"""Embed images with a frozen model once, and keep the embeddings so that a stopped run goes on from them.

RUN/embeddings/KEY/   a `megavit.training.feature_store.FeatureStore`, whose keys are the images' digests
"""

import hashlib
import math
import time

import torch
from torch import Tensor

from megavit.engine.engine import Engine
from megavit.predict.forward import compute_embeddings
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader, short_batch_size
from megavit.training.feature_store import FeatureStore
from megavit.training.loop.build import StartingModel


class Embeddings:
    """The embeddings of images by the pretrained model of a run, computed when they are first asked for.

    The faster of two runtimes is used, except in a run by epochs, which is to repeat to the bit.

    Args:
        weights: fingerprint of the pretrained weights.
    """

    def __init__(self, ctx: RunContext, start: StartingModel, weights: str) -> None:
        self.ctx, self.start = ctx, start
        key = hashlib.sha256(repr((weights, start.model.config, start.task.preprocessing)).encode()).hexdigest()[:16]
        self._store = FeatureStore(ctx.run_dir / "embeddings" / key, ctx.reporter.say)
        self._engine = Engine(start.model, start.task.preprocessing)
        if start.task.recipe.run.epochs:
            self._engine.patience = math.inf

    @property
    def seconds(self) -> float:
        """The time that computing took, also before a stop."""
        return self._store.seconds

    @property
    def elapsed(self) -> float:
        """The time of the run when the last embedding was written before a stop."""
        return self._store.elapsed

    @property
    def image_seconds(self) -> float:
        """The mean time that an image took."""
        return self.seconds / max(1, len(self._store.rows))

    def of(self, loader: TrainLoader) -> Tensor:
        """Return the embeddings (N, D) of a loader's images; several processes share the work and keep nothing."""
        if self.ctx.dist.is_distributed:
            return self._share(loader)
        store, digests = self._store, [sample.digest for sample in loader.images.samples]
        first = {digest: index for index, digest in reversed([*enumerate(digests)]) if digest not in store.rows}
        missing = sorted(first.values())
        size = short_batch_size(self.start.model.config, self.ctx.device)
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        done = len(digests) - len(missing)
        try:
            began = time.monotonic()
            for indices, (images, _) in zip(batches, loader.batches(iter(batches)), strict=True):
                rows, now = self._engine(images).pooled, time.monotonic()
                store.add([digests[index] for index in indices], rows, now - began)
                began = now
                done += len(indices)
                self.ctx.reporter.progress("embedding images", done, len(digests))
                if store.is_due:
                    store.write(self.ctx.clock.elapsed)
        finally:  # also when a signal stops the run
            store.write(self.ctx.clock.elapsed)
        return torch.stack([store.rows[digest] for digest in digests])

    def _share(self, loader: TrainLoader) -> Tensor:
        began = time.monotonic()
        model, preprocessing = self.start.model, self.start.task.preprocessing
        rows = loader.map(lambda batches: compute_embeddings(model, batches, preprocessing), self.ctx.parallel)
        self._store.seconds += time.monotonic() - began
        self._store.rows |= zip((sample.digest for sample in loader.images.samples), rows, strict=True)
        return rows
