"""Fit rows of a linear head for some classes, while the rows of the others stay as they are.

The other classes enter only by the log of the sum of their exponentials, so that the fit is a logistic regression with
an offset for each image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from megavit.evaluation.probes.cross_validation import make_folds
from megavit.evaluation.probes.linear_probe import fit_linear_probes, minimize_lbfgs, select_linear_probe

MIN_SELECTION_IMAGES, DEFAULT_PENALTY = 5, 0.01
"""Number of images of a class below which the penalty is not chosen on folds but given."""
MIN_SHIFT_IMAGES = 3
"""Number of images of a class below which its bias is left as it was fitted."""


class HeadInputs(NamedTuple):
    """Images to fit rows on.

    Attributes:
        features: (N, D) inputs of the head.
        others: (N,) log of the sum of the exponentials of the logits of the classes that stay.
        rows: (N,) index of each image's row; -1 for images of the classes that stay.
        labels: (N,) class of each image, by which folds are stratified.
        weights: (N,) weight of each image.
    """

    features: Tensor
    others: Tensor
    rows: Tensor
    labels: Tensor
    weights: Tensor

    def take(self, indices: Tensor) -> "HeadInputs":
        """Return the images at indices, or of a mask."""
        return HeadInputs(*(tensor[indices] for tensor in self))

    def targets(self, count: int) -> Tensor:
        """Return what `_loss` needs of each image, (N, count + 2), for that number of rows."""
        own = torch.zeros(len(self.rows), count)
        own[self.rows >= 0, self.rows[self.rows >= 0]] = 1
        return torch.cat([own, self.others[:, None], self.weights[:, None]], dim=1)


class HeadRows(NamedTuple):
    """Rows of a head: logits = features @ weight.T + bias, with weight (M, D) and bias (M,)."""

    weight: Tensor
    bias: Tensor
    penalty: float

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (N, M) of features (N, D)."""
        return features @ self.weight.T + self.bias


def fit_head_rows(inputs: HeadInputs, count: int, penalty: float | None = None) -> HeadRows:
    """Return `count` rows that minimize the cross-entropy over all classes, with the best penalty unless one is given.

    The penalty is on the weights, as for `megavit.evaluation.probes.linear_probe.fit_linear_probes`.
    """
    is_other, targets = inputs.rows < 0, inputs.targets(count)
    start = torch.full((count,), (inputs.others[is_other].mean() - 1).item())
    if penalty is None and int(inputs.rows[~is_other].bincount(minlength=count).min()) < MIN_SELECTION_IMAGES:
        penalty = DEFAULT_PENALTY
    if penalty is not None:
        (probe,) = fit_linear_probes(inputs.features, targets, _loss, start, (penalty,))
    else:
        probe = select_linear_probe(inputs.features, targets, inputs.labels, _loss, start)
    return HeadRows(probe.weight, probe.bias, probe.penalty)


def cross_val_predict_rows(inputs: HeadInputs, rows: HeadRows) -> Tensor:
    """Return the rows' logits (N, M) for each image, by rows that were fitted without it, with the same penalty."""
    logits = torch.empty(len(inputs.rows), len(rows.bias))
    for train, held_out in make_folds(inputs.labels):
        fitted = fit_head_rows(inputs.take(train), len(rows.bias), rows.penalty)
        logits[held_out] = fitted.logits(inputs.features[held_out])
    return logits


def fit_shift(train: tuple[HeadInputs, Tensor], val: tuple[HeadInputs, Tensor]) -> Tensor:
    """Return what to add to the biases of rows (M,) so that they are right for images that nothing was fitted on.

    A model is surer of the images that it was trained on than of others, so that rows fitted on them would take too
    many images from the other classes.

    Args:
        train: training images, with logits (N, M) by rows that were fitted without them.
        val: validation images, with the rows' logits; those of the classes that stay stand for all their images.
    """
    (inputs, logits), (held_out, held_out_logits) = train, val
    own = inputs.rows >= 0
    share = held_out.weights[held_out.rows < 0].sum() / inputs.weights[~own].sum()
    count = logits.shape[1]
    targets = torch.cat(
        [inputs.take(own)._replace(weights=inputs.weights[own] * share).targets(count), held_out.targets(count)]
    )
    values = torch.cat([logits[own], held_out_logits]).double()
    shift = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    minimize_lbfgs([shift], lambda: _loss(values + shift, targets.double()) + shift.square().sum() / len(targets))
    few = inputs.rows[own].bincount(minlength=count) < MIN_SHIFT_IMAGES
    return torch.where(few, 0.0, shift.detach()).float()


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of the rows' logits (N, M) for `HeadInputs.targets`."""
    own, others, weights = targets[:, :-2], targets[:, -2].to(logits.dtype), targets[:, -1]
    total = torch.logsumexp(torch.cat([others[:, None], logits], dim=1), dim=1)
    losses = total - (own * logits).sum(dim=1) - (1 - own.sum(dim=1)) * others
    return (weights * losses).sum() / weights.sum()
