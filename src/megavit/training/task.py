"""The learning task: target, loss, metric and batch size, fixed throughout a run."""

import math
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import AugmentRecipe, Recipe
from megavit.config.target import Target
from megavit.data.dataset import LabeledImages
from megavit.data.image_dataset import Images
from megavit.data.targets import num_outputs, target_tensor
from megavit.errors import DataError
from megavit.training.history import LabelMetric
from megavit.training.optim.distillation import DistillationLoss, TeacherTargets
from megavit.training.optim.loss import Loss, make_loss, soft_targets

Batch = tuple[Images, Tensor]
"""uint8 images, and their targets from `megavit.data.targets.target_tensor`, or with a teacher their indices."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The settings of training that stay the same in every step, with global batch size and images per epoch.

    Attributes:
        num_classes: number of outputs for the labels, which those for a teacher's features follow.
        step_memory: about the bytes that the activations of a step take of the main memory.
        teacher: outputs of the teacher for the training images; None without one, and before they are computed.
    """

    recipe: Recipe
    preprocessing: Preprocessing
    target: Target
    num_classes: int
    loss: Loss
    batch_size: int
    num_images: int
    step_memory: int = 0
    teacher: TeacherTargets | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the matrix products."""
        return torch.bfloat16 if self.recipe.run.precision == "bfloat16" else torch.float32

    @property
    def metric(self) -> LabelMetric:
        """Metric that selects the best epoch; it weights classes equally if class imbalance is handled."""
        match self.target.kind:
            case "classification":
                return "accuracy" if self.recipe.data.balance in ("auto", "none") else "balanced accuracy"
            case "multilabel":
                return "mean average precision"
            case "regression":
                return "R²"

    def epoch_at(self, step: int) -> int:
        """Return the number of complete epochs after `step` steps."""
        return step * self.batch_size // self.num_images

    def fractional_epoch_at(self, step: int) -> float:
        """Return the number of epochs after `step` steps; integral if the last step ended an epoch."""
        epoch = self.epoch_at(step)
        return epoch if epoch > self.epoch_at(step - 1) else round(step * self.batch_size / self.num_images, 2)

    def steps_in(self, epochs: int) -> int:
        """Return the number of steps in `epochs` epochs."""
        return math.ceil(epochs * self.num_images / self.batch_size)

    def augmentation_at(self, step: int) -> AugmentRecipe:
        has_begun = step * self.batch_size >= self.recipe.augment.after * self.num_images
        return self.recipe.augment if has_begun else AugmentRecipe()

    def compute_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a model's outputs, and of soft targets that those of the teacher follow, if any."""
        distillation = self.recipe.distillation
        if self.teacher is None or distillation is None:
            return self.loss(outputs, targets)
        return DistillationLoss(self.loss, self.num_classes, distillation)(outputs, targets)

    def soft_targets(self, labels: Tensor) -> Tensor:
        """Return the targets of `labels` for the loss and for mixing: float (B, num_classes)."""
        return soft_targets(labels, self.num_classes)

    def validation_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits without label smoothing or class balancing."""
        loss = make_loss(self.target, labels, self.num_classes, balance="none", label_smoothing=0.0)
        return loss(logits, self.soft_targets(labels))


def make_task(recipe: Recipe, preprocessing: Preprocessing, dataset: LabeledImages, device: torch.device) -> Task:
    """Return the task of a resolved recipe on the training images."""
    target, training = make_target(dataset), dataset.in_split("train")
    targets = target_tensor(training, dataset.target, len(dataset.classes)).to(device)
    num_classes = num_outputs(target.kind, len(dataset.classes))
    return Task(
        recipe=recipe,
        preprocessing=preprocessing,
        target=target,
        num_classes=num_classes,
        loss=make_loss(
            target,
            targets,
            num_classes,
            balance=recipe.data.balance,
            label_smoothing=recipe.optimizer.label_smoothing,
        ),
        batch_size=recipe.run.batch_size or len(training),
        num_images=len(training),
    )


def make_target(dataset: LabeledImages) -> Target:
    """Return the target of the training images, or raise DataError if all have the same regression target."""
    if dataset.target != "regression":
        return Target(kind=dataset.target)
    values = target_tensor(dataset.in_split("train"), "regression", 0).double()
    std = values.std(correction=0).item()
    if not std > 0:
        raise DataError(
            f"all {len(values):,} training images of {dataset.source} have the score {values[0].item():g}: "
            "there is nothing to learn; check the column score"
        )
    return Target(kind="regression", mean=values.mean().item(), std=std, median=statistics.median(values.tolist()))
