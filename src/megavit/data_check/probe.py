"""Predict images out of fold by a linear probe on the embeddings of a model."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from megavit.data.dataset import LabeledImages, SampleRow
from megavit.data.scan import Progress
from megavit.data_check.label_issues import OutOfFoldPredictions
from megavit.engine.engine import Engine
from megavit.engine.ensemble import EnsembleEngine
from megavit.errors import DataError
from megavit.evaluation.inference import embed_samples
from megavit.evaluation.probes.cross_validation import make_folds
from megavit.evaluation.probes.linear_probe import fit_linear_probes, select_linear_probe
from megavit.predict.embedding_files import SharedEmbeddings

MIN_IMAGES = 20
"""Minimum number of images to train a model on that checks labels."""


def predict_out_of_fold(
    engine: Engine | EnsembleEngine,
    images: LabeledImages,
    known: Sequence[SampleRow] = (),
    progress: Progress | None = None,
    *,
    shared: SharedEmbeddings | None = None,
) -> OutOfFoldPredictions:
    """Return cross-validated predictions for the images that the engine's model was not trained on.

    Args:
        known: rows of the `samples.csv` of the model's bundle.
        progress: called with the number of images embedded.
        shared: embeddings by the same model, which are not computed again; the others are added.

    Raises:
        DataError: if fewer than `MIN_IMAGES` images are left, or the model does not take their channels.
    """
    trained_on = {row.digest for row in known if row.split == "train"}
    indices = [i for i, sample in enumerate(images.samples) if sample.digest not in trained_on]
    excluded = len(images.samples) - len(indices)
    if len(indices) < MIN_IMAGES:
        raise DataError(
            f"the bundle was trained on {excluded:,} of these {len(images.samples):,} images and has memorized the "
            "labels, right or wrong: leave out --bundle to train models that have not"
        )
    embeddings = embed_samples(engine, images, [images.samples[i] for i in indices], progress, shared)
    labels = torch.tensor([images.samples[i].label for i in indices])
    targets = F.one_hot(labels, len(images.classes)).float()
    bias = (targets.mean(dim=0) + 1 / len(labels)).log()
    probabilities = torch.empty_like(targets)
    penalty: float | None = None
    for fold in make_folds(labels, digests=[images.samples[i].digest for i in indices]):
        x, y = embeddings[fold.train], targets[fold.train]
        if penalty is None:
            penalty = select_linear_probe(x, y, labels[fold.train], F.cross_entropy, bias).penalty
        (probe,) = fit_linear_probes(x, y, F.cross_entropy, bias, (penalty,))
        probabilities[fold.held_out] = probe.logits(embeddings[fold.held_out]).softmax(dim=1)
    model = "a linear probe on the model's embeddings"
    if excluded:
        model += f"; {excluded:,} images are not checked, because the bundle was trained on them"
    return OutOfFoldPredictions(probabilities, torch.tensor(indices), model)
