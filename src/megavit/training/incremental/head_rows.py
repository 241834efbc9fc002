"""Fit rows of a linear head for some classes, while the rows of the others stay as they are.

The other classes enter only by the log of the sum of their exponentials, so that the fit is a logistic regression with
an offset for each image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from megavit.evaluation.probes.cross_validation import make_folds
from megavit.evaluation.probes.linear_probe import fit_linear_probes, select_linear_probe

# Few images have no folds to choose a penalty by.
MIN_SELECTION_IMAGES, DEFAULT_PENALTY = 5, 0.01


class HeadInputs(NamedTuple):
    """Images to fit rows on.

    Attributes:
        features: (N, D) inputs of the head.
        others: (N,) log of the sum of the exponentials of the logits of the classes that stay, with the temperature.
        rows: (N,) index of each image's row; -1 for images of the classes that stay.
        labels: (N,) class of each image, by which folds are stratified.
    """

    features: Tensor
    others: Tensor
    rows: Tensor
    labels: Tensor


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
    is_new = inputs.rows >= 0
    own = torch.zeros(len(inputs.rows), count)
    own[is_new, inputs.rows[is_new]] = 1
    targets = torch.cat([own, inputs.others[:, None]], dim=1)
    start = torch.full((count,), (inputs.others[~is_new].mean() - 1).item())
    if penalty is None and int(inputs.rows[is_new].bincount(minlength=count).min()) < MIN_SELECTION_IMAGES:
        penalty = DEFAULT_PENALTY
    if penalty is not None:
        (probe,) = fit_linear_probes(inputs.features, targets, _loss, start, (penalty,))
    else:
        probe = select_linear_probe(inputs.features, targets, inputs.labels, _loss, start)
    return HeadRows(probe.weight, probe.bias, probe.penalty)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of the rows' logits (N, M), for targets (N, M + 1): own row, then `others`."""
    own, others = targets[:, :-1], targets[:, -1:].to(logits.dtype)
    total = torch.logsumexp(torch.cat([others, logits], dim=1), dim=1)
    is_other = 1 - own.sum(dim=1)
    return (total - (own * logits).sum(dim=1) - is_other * others[:, 0]).mean()


def cross_val_predict_rows(inputs: HeadInputs, rows: HeadRows) -> Tensor:
    """Return the rows' logits (N, M) for each image, by rows that were fitted without it, with the same penalty."""
    logits = torch.empty(len(inputs.rows), len(rows.bias))
    for train, held_out in make_folds(inputs.labels):
        part = HeadInputs(*(tensor[train] for tensor in inputs))
        logits[held_out] = fit_head_rows(part, len(rows.bias), rows.penalty).logits(inputs.features[held_out])
    return logits
