"""Compare a model with its teacher's outputs: features through a linear projection, and logits (arXiv 1503.02531)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.distillation import DistillationRecipe
from megavit.model.vit import MegaVit
from megavit.training.optim.loss import Loss

MIN_STD = 1e-6
# Share of the images that the student sees in a random view of its own, which the teacher has not seen; and its number.
OWN_SHARE, OWN = 0.5, -1


@dataclass(frozen=True)
class TeacherTargets:
    """The outputs of a teacher for the training images, in a few views of each.

    Attributes:
        maps: (views, N, 2, 3) affine maps of the views, as in `megavit.data.augment`; the first are whole images.
        features: (views, N, D) features, of which each has mean 0 and deviation 1 over images and views.
        probabilities: (views, N, classes) probabilities at the temperature of the imitation, in the order of the
            classes; None if the teacher does not know them.
        labels: (N, ...) targets of the images, as `megavit.data.targets.target_tensor` returns them.
        record: the teacher's name, the origin and license of its weights, and what is imitated, for the bundle.
    """

    maps: Tensor
    features: Tensor
    probabilities: Tensor | None
    labels: Tensor
    record: dict[str, Any]

    def draw_views(self, count: int, *, is_whole: bool) -> Tensor:
        """Draw the views of `count` images from torch's global generator, or return those of whole images.

        Of about `OWN_SHARE` of them it is `OWN`, so that the labels are learned from more than a few crops.
        """
        if is_whole:
            return torch.zeros(count, dtype=torch.long)
        views = torch.randint(len(self.maps), (count,))
        return views.where(torch.rand(count) >= OWN_SHARE, OWN)

    def select_maps(self, views: Tensor, indices: Tensor, own: Tensor) -> Tensor:
        """Return the maps (B, 2, 3) of the views of images, those of `own` where the view is `OWN`."""
        return self.maps[views, indices].where((views != OWN)[:, None, None], own)

    def look_up(self, views: Tensor, indices: Tensor) -> Tensor:
        """Return the targets (B, D or D + classes) that follow the labels in `DistillationLoss`; NaN for `OWN`."""
        targets = self.features[views, indices]
        if self.probabilities is not None:
            targets = torch.cat([targets, self.probabilities[views, indices]], dim=1)
        return targets.where((views != OWN)[:, None], torch.nan)


@dataclass(frozen=True)
class DistillationLoss:
    """The loss of labels, together with those of the teacher's features and logits.

    Outputs and targets have `num_outputs` columns for the labels, then those of the features, and targets also the
    teacher's probabilities, if it has any. All are mixed alike where images are mixed. Rows whose features are NaN are
    of views that the teacher has not seen: these count for the labels alone.

    Attributes:
        labels: loss of the labels.
        num_outputs: number of outputs for the labels.
        recipe: weights and temperature.
    """

    labels: Loss
    num_outputs: int
    recipe: DistillationRecipe

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, num_outputs + D) and targets (B, num_outputs + D or + classes)."""
        count, recipe = self.num_outputs, self.recipe
        logits, projected = outputs[:, :count], outputs[:, count:]
        labels, features, probabilities = targets.tensor_split([count, outputs.shape[1]], dim=1)
        loss = self.labels(logits, labels)
        is_seen = features[:, 0].isfinite().float()
        if probabilities.shape[1]:
            softened = F.log_softmax(logits / recipe.temperature, dim=1)
            # The gradient shrinks with the square of the temperature (section 2).
            imitation = -(probabilities.nan_to_num() * softened).sum(dim=1).mean() * recipe.temperature**2
            loss = (1 - recipe.logits * is_seen.mean()) * loss + recipe.logits * imitation
        errors = F.mse_loss(projected, features.nan_to_num(), reduction="none").mean(dim=1)
        return loss + recipe.features * (is_seen * errors).mean()


def drop_teacher_outputs(model: MegaVit, num_classes: int) -> MegaVit:
    """Return a copy of a model that was trained with a teacher, without the outputs for the teacher's features."""
    student = MegaVit.from_config(replace(model.config, num_classes=num_classes)).to(next(model.parameters()).device)
    tensors = model.state_dict()
    student.load_state_dict(
        {
            name: tensors[name][: own.shape[0]] if own.dim() else tensors[name]
            for name, own in student.state_dict().items()
        }
    )
    return student


def standardize(features: Tensor) -> Tensor:
    """Return features (views, N, D) with mean 0 and deviation 1 over images and views; constant ones become 0."""
    std, mean = torch.std_mean(features, dim=(0, 1), correction=0)
    return (features - mean) / std.clamp_min(MIN_STD)
