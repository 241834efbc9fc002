"""Predictions for every image by a linear classifier on a bundle's embeddings, learned from the other images."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.check.label_issues import OutOfFoldPredictions
from megavit.data.dataset import LabeledImages, SampleRow
from megavit.data.image_dataset import ImageDataset
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.scan import Progress
from megavit.errors import DataError
from megavit.evaluate.inference import check_channels, num_decode_workers
from megavit.evaluate.probes.cross_validation import make_folds
from megavit.evaluate.probes.linear_probe import fit_linear_probes, select_linear_probe
from megavit.predict.predictor import Predictor

MIN_IMAGES = 20
"""Images, below which nothing is learned that could judge a label."""
BATCH = 64


def predict_out_of_fold(
    predictor: Predictor, images: LabeledImages, known: Sequence[SampleRow], progress: Progress | None = None
) -> OutOfFoldPredictions:
    """In cross-validation, for the images that the bundle was not trained on: it knows the labels of those by heart.

    Args:
        known: the rows of the bundle's `samples.csv`.
        progress: told how many images the bundle has seen.

    Raises:
        DataError: when fewer than `MIN_IMAGES` images are left, or their channels do not fit.
    """
    learned = {row.digest for row in known if row.split == "train"}
    places = [place for place, sample in enumerate(images.samples) if sample.digest not in learned]
    if len(places) < MIN_IMAGES:
        raise DataError(
            f"the bundle was trained on {len(images.samples) - len(places):,} of these {len(images.samples):,} images, "
            "and has learned their labels by heart, right or wrong: leave out --bundle, and models are trained that "
            "have not"
        )
    embeddings = _embed(predictor, images, places, progress)
    labels = torch.tensor([images.samples[place].label for place in places])
    wanted = F.one_hot(labels, len(images.classes)).float()
    start = (wanted.mean(dim=0) + 1 / len(labels)).log()
    probabilities = torch.empty_like(wanted)
    penalty: float | None = None
    for fold in make_folds(labels, digests=[images.samples[place].digest for place in places]):
        own = embeddings[fold.train], wanted[fold.train]
        if penalty is None:
            penalty = select_linear_probe(*own, labels[fold.train], F.cross_entropy, start).penalty
        (probe,) = fit_linear_probes(*own, F.cross_entropy, start, (penalty,))
        probabilities[fold.held_out] = probe.logits(embeddings[fold.held_out]).softmax(dim=1)
    left_out = len(images.samples) - len(places)
    judge = "a linear classifier on the bundle's embeddings" + (
        f"; {left_out:,} images are not judged, because the bundle was trained on them" if left_out else ""
    )
    return OutOfFoldPredictions(probabilities, torch.tensor(places), judge)


def _embed(predictor: Predictor, images: LabeledImages, places: Sequence[int], progress: Progress | None) -> Tensor:
    samples = [images.samples[place] for place in places]
    size = predictor.info.preprocessing
    check_channels(images, samples, size.channels)
    found: list[Tensor] = []
    done = 0
    order = sequential_batches(len(samples), BATCH)
    for batch in iter_batches(ImageDataset(images, samples, size), order, num_decode_workers(images, len(samples))):
        found.append(predictor.engine(batch).pooled)
        done += len(found[-1])
        if progress is not None:
            progress(done, len(samples))
    return torch.cat(found)
