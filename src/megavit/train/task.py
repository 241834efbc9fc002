"""What a run learns: the task, which stays the same from step to step, and the batches of its steps."""

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
from megavit.train.history import MetricName
from megavit.train.optim.loss import Loss, make_loss, soft_targets

Batch = tuple[Images, Tensor]
"""uint8 images, and their targets as `megavit.data.targets.target_tensor` gives them."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What does not change from step to step.

    Attributes:
        recipe: resolved, without automatic choices.
        preprocessing: of the model's input.
        target: what is learned.
        num_classes: outputs of the model.
        loss: of logits and soft targets.
        batch_size: images a step, of all processes together.
        num_images: training images, those of an epoch.
    """

    recipe: Recipe
    preprocessing: Preprocessing
    target: Target
    num_classes: int
    loss: Loss
    batch_size: int
    num_images: int

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the matrix products."""
        return torch.bfloat16 if self.recipe.run.precision == "bfloat16" else torch.float32

    @property
    def metric(self) -> MetricName:
        """The metric that the best epoch is chosen by; every class counts alike where class imbalance is handled."""
        match self.target.kind:
            case "classification":
                return "accuracy" if self.recipe.data.balance in ("auto", "none") else "balanced accuracy"
            case "multilabel":
                return "mean average precision"
            case "regression":
                return "R²"

    def epoch_at(self, step: int) -> int:
        """Return the number of whole epochs in the first `step` steps."""
        return step * self.batch_size // self.num_images

    def fractional_epoch_at(self, step: int) -> float:
        """Return the number of epochs in the first `step` steps; whole where the last of them ended an epoch."""
        whole = self.epoch_at(step)
        return whole if whole > self.epoch_at(step - 1) else round(step * self.batch_size / self.num_images, 2)

    def steps_in(self, epochs: int) -> int:
        """Return the number of steps of so many epochs."""
        return math.ceil(epochs * self.num_images / self.batch_size)

    def augmentation_at(self, step: int) -> AugmentRecipe:
        """Return the augmentation after `step` steps."""
        has_begun = step * self.batch_size >= self.recipe.augment.after * self.num_images
        return self.recipe.augment if has_begun else AugmentRecipe()

    def soft_targets(self, labels: Tensor) -> Tensor:
        """Return the targets of `labels` as the loss takes them, and as they can be mixed: float (B, num_classes)."""
        return soft_targets(labels, self.num_classes)

    def validation_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the plain loss of logits, without label smoothing or a method against class imbalance."""
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
    """Return the target of the training images; thresholds are chosen after training.

    Raises:
        DataError: when all training images have the same regression target.
    """
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
