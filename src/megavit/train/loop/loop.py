"""The training loop."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import AugmentRecipe, Recipe, ScheduleRecipe
from megavit.config.target import Target
from megavit.data.augment import augment, normalize
from megavit.data.image_dataset import Images, to_device
from megavit.distributed.context import ParallelContext
from megavit.errors import DivergedError, Interrupted
from megavit.runtime.seeds import seed_all
from megavit.runtime.storage import write_file, writing
from megavit.train.checkpoint.checkpoint import ROLLBACK_EVERY, save_checkpoint
from megavit.train.clock import Budget
from megavit.train.history import EpochRecord, MetricName
from megavit.train.loop.logit_monitor import Monitor
from megavit.train.loop.validation import metric_of
from megavit.train.optim.loss import Loss, soft_targets
from megavit.train.optim.optimizer import learning_rate, update_ema
from megavit.train.progress import Reporter
from megavit.train.setup.memory import at_once
from megavit.train.signals import StopRequest
from megavit.train.spike_detection import PATIENCE
from megavit.train.state import TrainState

Batch = tuple[Images, Tensor]
Validate = Callable[[nn.Module], tuple[float, float]]

# So many steps in a row without a finite gradient are no accident.
MOST_SKIPPED_IN_A_ROW = 20


@dataclass(frozen=True, kw_only=True)
class Task:
    """What does not change from step to step.

    Attributes:
        recipe: with every automatic choice filled in.
        preprocessing: of the model's input.
        target: what is learned.
        num_classes: outputs of the model.
        loss: of logits and soft targets.
        batch_size: images a step.
        images: in an epoch.
    """

    recipe: Recipe
    preprocessing: Preprocessing
    target: Target
    num_classes: int
    loss: Loss
    batch_size: int
    images: int

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products."""
        return torch.bfloat16 if self.recipe.run.precision == "bfloat16" else torch.float32

    @property
    def metric(self) -> MetricName:
        """By which the best epoch is chosen."""
        return metric_of(self.target.kind, self.recipe.data.balance)

    def epoch_at(self, step: int) -> int:
        """Whole passes over the images in the first `step` steps."""
        return step * self.batch_size // self.images

    def variation_at(self, step: int) -> AugmentRecipe:
        """How images are varied after `step` steps."""
        begun = step * self.batch_size >= self.recipe.augment.after * self.images
        return self.recipe.augment if begun else AugmentRecipe()

    def passes_at(self, step: int) -> float:
        """Passes over the images in the first `step` steps; whole where the last of them ended an epoch."""
        whole = self.epoch_at(step)
        return whole if whole > self.epoch_at(step - 1) else round(step * self.batch_size / self.images, 2)


def fit(
    state: TrainState,
    task: Task,
    budget: Budget,
    batches: Iterator[Batch],
    validate: Validate,
    monitor: Monitor,
    folder: Path,
    stop: StopRequest,
    watch: Reporter,
    began: float,
) -> None:
    """Train `state` until its progress is 1.

    Args:
        budget: how far each step brings it.
        batches: (uint8 images, targets of these, as `target_tensor` gives them) from
            `state.step` on.
        validate: the (loss, `task.metric`) of a model on the validation images.
        monitor: the largest logits of a model.
        folder: of the run, for its checkpoints and log.
        stop: asked after each step.
        watch: told after each step and validation.
        began: the monotonic time at which the command began, pauses left out.

    Raises:
        DivergedError: when the loss has not been a number for many steps, or is none on the validation images; or stays
            far above what it was (`megavit.train.spike_detection`).
        Interrupted: when asked to stop; a checkpoint has been written.
        OutputError: when a checkpoint cannot be written; the last one is still there.
    """
    saved_at = time.monotonic()
    # Of several processes the slowest counts, so that all of them do the same steps.
    (used,) = state.parallel.all_reduce_max(saved_at - began)
    while state.progress < 1:
        started = time.monotonic()
        stride = budget.next_step(state.step, state.progress, used)
        images, labels = next(batches)
        rate = learning_rate(stride.middle, 1.0, task.recipe.schedule)
        loss = train_step(state, task, images, labels, rate, stride.steps)
        if math.isnan(loss) and state.skipped_in_a_row <= 1:
            watch.say(f"step {state.step:,} changes nothing: its gradient is far out of line, or not finite")
        state.progress = stride.after
        took, checked = time.monotonic() - started, 0.0
        watch.step(state.step, stride.steps, loss)

        epoch_ended = task.epoch_at(state.step) > task.epoch_at(state.step - 1)
        if stride.is_validation_due(state.validated, budget.min_validation_gap, epoch_ended):
            started = time.monotonic()
            end_epoch(state, task, validate, monitor, rate * task.recipe.optimizer.learning_rate, began)
            checked = time.monotonic() - started
            if state.parallel.dist.is_main_process:
                write_log(folder, state)
            watch.epoch(state.history[-1])
        now = time.monotonic()
        waited = now - saved_at >= task.recipe.run.checkpoint_seconds
        due = waited or state.step % ROLLBACK_EVERY == 0
        due, asked, used, took, checked = state.parallel.all_reduce_max(due, stop.signal, now - began, took, checked)
        budget.record_step(took)
        if checked:
            budget.record_validation(checked)
        state.seconds = used
        if due or asked or state.progress == 1:
            save_checkpoint(folder / "checkpoints", state, wait=bool(asked) or state.progress == 1)
            saved_at = time.monotonic()
            (used,) = state.parallel.all_reduce_max(saved_at - began)
        if asked and state.progress < 1:
            raise Interrupted(f"stopped as asked after step {state.step} of {stride.steps}; all is saved", int(asked))


def train_step(state: TrainState, task: Task, images: Images, labels: Tensor, rate: float, steps: int) -> float:
    """One step of about `steps` on uint8 images and their labels, at `rate` in [0, 1] of its peak; the loss."""
    device = next(state.model.parameters()).device
    recipe = task.recipe.optimizer
    seed_all(task.recipe.run.seed, state.step, *state.parallel.seed_suffix)
    state.model.train()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate

    variation = task.variation_at(state.step)
    varied = augment(to_device(images, device), task.preprocessing, variation)
    inputs = normalize(varied, task.preprocessing)
    del varied  # or it would stay in memory until the step ends
    inputs, targets = mix(inputs, labels.to(device, non_blocking=True), task.num_classes, variation)
    inputs = progressive_resize(inputs, state, task.recipe.schedule)
    loss = backward(state.wrapped or state.model, inputs, targets, task, state.parallel)
    loss, norm = state.parallel.all_reduce_mean(loss, state.parallel.clip_grad_norm(state.model, recipe.clip_norm))
    early = state.progress < task.recipe.schedule.early
    state.step += 1
    if not math.isfinite(norm) or not math.isfinite(loss):
        skip_step(state)
        return math.nan
    state.skipped_in_a_row = 0
    if state.spike_detector.update(loss, norm, [variation == task.recipe.augment, early]):
        state.skipped += 1
        return math.nan
    if state.spike_detector.diverged:
        since = state.step - PATIENCE
        raise DivergedError(f"the loss has been far above the usual for {PATIENCE} steps after step {since:,}", since)
    for optimizer in state.optimizers:
        optimizer.step()
    update_ema(state.average, state.model, recipe.ema * steps, state.step)
    state.loss_sum += loss
    state.loss_steps += 1
    return loss


def backward(model: nn.Module, inputs: Images, targets: Tensor, task: Task, parallel: ParallelContext) -> float:
    """Add the gradient of the mean loss to the parameters', in as many parts as the recipe says; that loss."""
    size = at_once(len(targets), task.recipe.run.gradient_accumulation or 1)
    low = task.dtype == torch.bfloat16 and not parallel.casts_weights
    found = 0.0
    for start in range(0, len(targets), size):
        part, wanted = inputs[start : start + size], targets[start : start + size]
        with parallel.no_sync(model, enabled=start + size < len(targets)):
            with torch.autocast(wanted.device.type, dtype=torch.bfloat16, enabled=low):
                logits = model(part)
            loss = task.loss(logits.float(), wanted) * (len(wanted) / len(targets))
            loss.backward()
        found += loss.item()
    return found


def progressive_resize(images: Images, state: TrainState, schedule: ScheduleRecipe) -> Images:
    """Early in the run, smaller images and a model that leaves out patches; else both as they are."""
    early = state.progress < schedule.early
    state.model.patch_drop.rate = schedule.patch_drop if early else state.model.config.design.patch_drop
    if not early or schedule.scale == 1:
        return images
    if isinstance(images, list):
        return [_smaller(image[None], state, schedule.scale)[0] for image in images]
    return _smaller(images, state, schedule.scale)


def _smaller(images: Tensor, state: TrainState, scale: float) -> Tensor:
    sides = zip(images.shape[2:], state.model.config.patch_hw, strict=True)
    size = [math.ceil(side * scale / patch) * patch for side, patch in sides]
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


@overload
def mix(images: Tensor, labels: Tensor, classes: int, recipe: AugmentRecipe) -> tuple[Tensor, Tensor]: ...
@overload
def mix(images: Images, labels: Tensor, classes: int, recipe: AugmentRecipe) -> Batch: ...
def mix(images: Images, labels: Tensor, classes: int, recipe: AugmentRecipe) -> Batch:
    """Images and soft targets (B, outputs), mixed in pairs by mixup or CutMix if the recipe says so.

    `megavit.train.setup.resolve.settle_mixing` sees to it that images of different sizes are not to be mixed.
    """
    targets = soft_targets(labels, classes)
    choices: list[nn.Module] = []
    if recipe.mixup:
        choices.append(v2.MixUp(alpha=recipe.mixup))
    if recipe.cutmix:
        choices.append(v2.CutMix(alpha=recipe.cutmix))
    if not choices:
        return images, targets
    return v2.RandomChoice(choices)(images, targets)


def skip_step(state: TrainState) -> None:
    """Count a step whose gradient or loss was not finite."""
    state.skipped += 1
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        since = state.step - state.skipped_in_a_row
        raise DivergedError(
            f"the loss has not been a number for {MOST_SKIPPED_IN_A_ROW} steps after step {since:,}", since
        )


def end_epoch(state: TrainState, task: Task, validate: Validate, monitor: Monitor, rate: float, began: float) -> None:
    """Validate the averaged weights and record what came of it."""
    loss, metric = validate(state.average)
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss on the validation images is no longer a number after step {state.step:,}", state.step
        )
    largest = monitor(state.model)
    record = EpochRecord(
        epoch=task.passes_at(state.step),
        step=state.step,
        seconds=time.monotonic() - began,
        train_loss=state.loss_sum / state.loss_steps if state.loss_steps else None,
        val_loss=loss,
        val_metric=metric,
        learning_rate=rate,
        metric=task.metric,
        attention_logit=_finite(largest.attention),
        head_logit=_finite(largest.head),
    )
    state.loss_sum, state.loss_steps = 0.0, 0
    state.validated = state.progress
    state.record(record)


def _finite(logit: float) -> float | None:
    return logit if math.isfinite(logit) else None


def write_log(folder: Path, state: TrainState) -> None:
    """Write a line a record; all of them each time, so that what a stop cut off is not in it twice."""
    with writing("the log", folder):
        write_file(
            folder / "log.jsonl",
            "".join(json.dumps(asdict(epoch), ensure_ascii=False) + "\n" for epoch in state.history),
        )
