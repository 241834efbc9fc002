"""Write the bundle of a pretraining, and its results."""

import copy
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from megavit.config.serialization import to_dict
from megavit.data.image_dataset import limit_size
from megavit.training.context import RunContext, TrainSetup
from megavit.training.pretraining.objective import describe_collapse
from megavit.training.report.examples import REFERENCE_IMAGES, REFERENCE_SIDE
from megavit.training.report.finalize import BUNDLE
from megavit.training.run_dir import SAMPLES
from megavit.weights.bundle.bundle import save_bundle
from megavit.weights.bundle.info import BundleInfo
from megavit.weights.pretrained.pretrained import PretrainedModel


@dataclass(frozen=True, kw_only=True)
class PretrainingRun:
    """A finished pretraining, which stands for its folder wherever a bundle is expected.

    Attributes:
        folder: folder of the run.
        bundle: folder of the model without a head, within `folder`.
        images: number of images that it has learned from.
        epochs: passes over them.
        seconds: time to the last step, excluding pauses.
        dim: number of an embedding's dimensions.
        effective_rank: effective rank of the embeddings of up to 1,000 of the images.
        embedding_std: mean standard deviation of their projections, 1 for normally distributed ones.
        neighbor_accuracy: accuracy of nearest neighbors among these images; None if they have no classes.
        warning: warning about collapsed embeddings, "" if they are not.
    """

    folder: Path
    bundle: Path
    images: int
    epochs: float
    seconds: float
    dim: int
    effective_rank: float
    embedding_std: float
    neighbor_accuracy: float | None
    warning: str

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return the paths and results as plain JSON types."""
        return asdict(self) | {"folder": str(self.folder), "bundle": str(self.bundle)}


def finish(ctx: RunContext, setup: TrainSetup, weights: PretrainedModel | None) -> PretrainingRun:
    """Write the bundle of a pretraining that has completed its steps: the averaged weights without the projection."""
    dataset, state, task = ctx.dataset, setup.state, setup.task
    last, dim = state.history[-1], state.model.config.pooled_dim
    rank, std = last.effective_rank or 0.0, last.embedding_std or 0.0
    run = PretrainingRun(
        folder=ctx.run_dir,
        bundle=ctx.run_dir / BUNDLE,
        images=len(dataset.samples),
        epochs=last.epoch,
        seconds=round(state.seconds, 1),
        dim=dim,
        effective_rank=rank,
        embedding_std=std,
        neighbor_accuracy=last.val_metric if last.metric == "nearest-neighbor accuracy" else None,
        warning=describe_collapse(rank, std, dim),
    )
    model = copy.deepcopy(state.ema_model).eval()
    model.mlp_head = nn.Identity()
    origin = {} if weights is None else {"origin": weights.origin.place, "license": weights.origin.license}
    info = BundleInfo(
        model=model.config,
        labels=[],
        preprocessing=task.preprocessing,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics={},
        data={
            "source": dataset.source,
            "fingerprint": dataset.fingerprint(),
            "division": dataset.split_description,
            "counts": dataset.split_sizes(),
            "skipped": dataset.skipped_by_reason(),
            "pretraining": {
                "method": "LeJEPA (arXiv 2511.08544)",
                "epochs": run.epochs,
                "seconds": run.seconds,
                "effective_rank": rank,
                "embedding_std": std,
                "neighbor_accuracy": run.neighbor_accuracy,
                "warning": run.warning,
            },
            **origin,
        },
        recipe=to_dict(task.recipe),
    )
    samples = dataset.samples[:: -(-len(dataset.samples) // REFERENCE_IMAGES)]
    reference = [limit_size(dataset.load_pixels(sample), REFERENCE_SIDE) for sample in samples]
    save_bundle(run.bundle, model, info, reference=reference, samples=(ctx.run_dir / SAMPLES).read_bytes())
    return run
