"""Measure what averaging the outputs of the folds' models brings, on images that they were not trained on.

No image is new to all models. But each validation image of a fold is a test image of another one, so the mean of these
two models can be compared with each alone. For convex losses, such as the log loss and absolute errors, the mean of
more models of one kind is at least as good in expectation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megavit.config.target import TargetKind
from megavit.evaluation.metrics.bootstrap import bootstrap_images
from megavit.evaluation.metrics.dispatch import PrimaryMetric, make_primary_metric
from megavit.training.folds.outputs import FoldOutputs
from megavit.training.report.cross_validation import EnsembleGain


@dataclass(frozen=True)
class SharedOutputs:
    """The outputs of several models for images that none of them was trained on.

    Attributes:
        models: one tensor of outputs for each model; of two, the models are others for each image.
        targets: targets of the images.
    """

    models: tuple[Tensor, ...]
    targets: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean of the models' outputs."""
        return torch.stack(self.models).mean(dim=0)


def find_shared_outputs(folds: Sequence[FoldOutputs]) -> SharedOutputs | None:
    """Return the outputs for validation images that more than one model was not trained on; None without such images.

    If the data defines the validation images, these are outputs of all folds' models, else of two.
    """
    names = [[sample.name for sample in fold.val_samples] for fold in folds]
    if all(others == names[0] for others in names):
        return SharedOutputs(tuple(fold.val.predicted for fold in folds), folds[0].val.targets)
    tested = {
        sample.name: output for fold in folds for sample, output in zip(fold.samples, fold.test.predicted, strict=True)
    }
    pairs: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for fold in folds:
        for sample, output, target in zip(fold.val_samples, fold.val.predicted, fold.val.targets, strict=True):
            if sample.name in tested:
                pairs.setdefault(sample.name, (tested[sample.name], output, target))
    if not pairs:
        return None
    first, second, targets = (torch.stack(column) for column in zip(*pairs.values(), strict=True))
    return SharedOutputs((first, second), targets)


def measure_gain(shared: SharedOutputs, kind: TargetKind) -> EnsembleGain | None:
    """Return by how much the mean of the models is better than one of them; None if no image has a label."""
    singles = [make_primary_metric(outputs, shared.targets, kind) for outputs in shared.models]
    mean = make_primary_metric(shared.mean, shared.targets, kind)
    sign = -1 if kind == "regression" else 1

    def average(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.mean([single.compute(weights) for single in singles], axis=0)

    (difference,) = bootstrap_images(
        lambda drawn: sign * (mean.compute(drawn) - average(drawn))[:, None], mean.images, work=mean.work * 3
    )
    if difference is None:
        return None
    ones = np.ones((1, mean.images))
    return EnsembleGain(
        models=len(singles),
        images=mean.images,
        single=float(average(ones)[0]),
        mean=float(mean.compute(ones)[0]),
        difference=difference,
        p_value=_sign_test(mean, singles),
    )


def _sign_test(mean: PrimaryMetric, singles: Sequence[PrimaryMetric]) -> float | None:
    """Return the p-value of the sign test that the mean of two classifiers is more often ahead of them than behind.

    It is ahead on an image if it is correct and not both of them are; None for other targets and numbers of models.
    """
    from scipy.stats import binomtest

    first, second = singles[0].correct, singles[1].correct
    if len(singles) != 2 or mean.correct is None or first is None or second is None:
        return None
    ahead = 2 * mean.correct.astype(int) - first - second
    gained, lost = int((ahead > 0).sum()), int((ahead < 0).sum())
    return float(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue) if gained + lost else 1.0
