"""Perform one optimizer step: augmentation, forward and backward passes of micro-batches, and the weight update."""

import math
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from megavit.config.recipe import AugmentRecipe, ScheduleRecipe
from megavit.data.augment import augment, draw_affine_maps, normalize
from megavit.data.image_dataset import Images, to_device
from megavit.distributed.context import ParallelContext
from megavit.errors import DivergedError
from megavit.runtime.seeds import seed_all
from megavit.training.context import Objective
from megavit.training.spike_detection import PATIENCE
from megavit.training.state import TrainState
from megavit.training.task import Batch, Task

# Training stops after this many consecutive steps with a nonfinite gradient.
MAX_SKIPPED_IN_A_ROW = 20


def train_step(
    state: TrainState, task: Task, batch: Batch, rate: float, steps: int, *, objective: Objective | None = None
) -> float:
    """Perform one optimizer step and return its loss, or NaN if the step was skipped.

    Args:
        rate: learning rate as a fraction of its peak, in [0, 1].
        steps: expected number of steps in the run.
        objective: what is trained for; None for the labels.

    Raises:
        DivergedError: if the loss is not finite for many steps, or stays far above its previous values.
    """
    recipe = task.recipe.optimizer
    seed_all(task.recipe.run.seed, state.step, *state.parallel.seed_suffix)
    state.model.train()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate

    augmentation = task.augmentation_at(state.step)
    accumulate = accumulate_gradient if objective is None else objective.accumulate_gradient
    losses = accumulate(state, task, batch)
    gradient_norm = state.parallel.clip_grad_norm(state.model, recipe.clip_norm)
    # The only point of a step at which Python waits for the device.
    *losses, norm = torch.stack([*losses, gradient_norm]).tolist()
    loss, norm = state.parallel.all_reduce_mean(sum(losses), norm)
    is_early = state.is_early(task.recipe.schedule)
    state.step += 1
    if not math.isfinite(norm) or not math.isfinite(loss):
        _skip_nonfinite(state)
        return math.nan
    state.skipped_in_a_row = 0
    if state.spike_detector.update(loss, norm, [augmentation == task.recipe.augment, is_early]):
        state.skipped += 1
        return math.nan
    if state.spike_detector.diverged:
        since = state.step - PATIENCE
        raise DivergedError(f"the loss was far above its usual level for {PATIENCE} steps after step {since:,}", since)
    for optimizer in state.optimizers:
        optimizer.step()
    state.update_ema(recipe.ema * steps)
    state.loss_sum += loss
    state.loss_steps += 1
    return loss


def accumulate_gradient(state: TrainState, task: Task, batch: Batch) -> list[Tensor]:
    """Accumulate the gradient of the loss of a batch's labels, and return the share of each micro-batch in it."""
    augmentation = task.augmentation_at(state.step)
    inputs, targets = mix(*augment_batch(batch, task, augmentation, state.device), augmentation)
    inputs = progressive_resize(inputs, state, task.recipe.schedule)
    return backward(state.wrapped or state.model, (inputs, targets), task, state.parallel)


def augment_batch(batch: Batch, task: Task, augmentation: AugmentRecipe, device: torch.device) -> Batch:
    """Return augmented and normalized images of a batch on the device, and the targets of the task's loss."""
    images, labels = batch
    maps = None
    if task.teacher is None:
        targets = task.soft_targets(to_device(labels, device))
    else:
        views = task.teacher.draw_views(len(labels), is_whole=augmentation != task.recipe.augment)
        size = (task.preprocessing.height, task.preprocessing.width)
        maps = task.teacher.select_maps(views, labels, draw_affine_maps(len(labels), size, augmentation))
        imitated = task.teacher.look_up(views, labels)
        targets = to_device(torch.cat([task.soft_targets(task.teacher.labels[labels]), imitated], dim=1), device)
    augmented = augment(to_device(images, device), task.preprocessing, augmentation, maps)
    return normalize(augmented, task.preprocessing), targets


def backward(model: nn.Module, batch: Batch, task: Task, parallel: ParallelContext) -> list[Tensor]:
    """Accumulate the gradient of the mean loss of normalized images and soft targets.

    Returns:
        The share () of each micro-batch in that loss, still being computed if the model is on a GPU.
    """
    inputs, targets = batch
    micro_batch_size = math.ceil(len(targets) / (task.recipe.run.gradient_accumulation or 1))
    autocast = task.dtype == torch.bfloat16 and not parallel.casts_weights
    losses = []
    for start in range(0, len(targets), micro_batch_size):
        stop = start + micro_batch_size
        micro_inputs, micro_targets = inputs[start:stop], targets[start:stop]
        with parallel.no_sync(model, enabled=stop < len(targets)):
            with torch.autocast(micro_targets.device.type, dtype=torch.bfloat16, enabled=autocast):
                logits = model(micro_inputs)
            loss = task.compute_loss(logits.float(), micro_targets) * (len(micro_targets) / len(targets))
            loss.backward()
        losses.append(loss.detach())
    return losses


def progressive_resize(images: Images, state: TrainState, schedule: ScheduleRecipe) -> Images:
    """Return smaller images early in the run, and set the patch drop rate of that phase."""
    is_early = state.is_early(schedule)
    state.model.patch_drop.rate = schedule.patch_drop if is_early else state.model.config.design.patch_drop
    if not is_early or schedule.scale == 1:
        return images
    if isinstance(images, list):
        return [_resize(image[None], state, schedule.scale)[0] for image in images]
    return _resize(images, state, schedule.scale)


def _resize(images: Tensor, state: TrainState, scale: float) -> Tensor:
    sides = zip(images.shape[2:], state.model.config.patch_hw, strict=True)
    size = [math.ceil(side * scale / patch) * patch for side, patch in sides]
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


@overload
def mix(images: Tensor, targets: Tensor, recipe: AugmentRecipe) -> tuple[Tensor, Tensor]: ...
@overload
def mix(images: Images, targets: Tensor, recipe: AugmentRecipe) -> Batch: ...
def mix(images: Images, targets: Tensor, recipe: AugmentRecipe) -> Batch:
    """Return images and soft targets (B, outputs), mixed in pairs by mixup or CutMix if the recipe says so."""
    choices: list[nn.Module] = []
    if recipe.mixup:
        choices.append(v2.MixUp(alpha=recipe.mixup))
    if recipe.cutmix:
        choices.append(v2.CutMix(alpha=recipe.cutmix))
    if not choices:
        return images, targets
    return v2.RandomChoice(choices)(images, targets)


def _skip_nonfinite(state: TrainState) -> None:
    state.skipped += 1
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
        since = state.step - state.skipped_in_a_row
        raise DivergedError(
            f"the loss or its gradient was not finite for {MAX_SKIPPED_IN_A_ROW} steps after step {since:,}", since
        )
