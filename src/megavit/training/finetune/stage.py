"""Train one resumable stage of a fine-tuning in its own folder.

FOLDER/stage.json     length of the stage, decided before its first step
FOLDER/log.jsonl      one line per epoch, and every few seconds
FOLDER/checkpoints/   training state
"""

import copy
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from megavit.config.serialization import from_dict, parse_json
from megavit.errors import BundleError, ConfigError
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_logits
from megavit.runtime.seeds import seed_all
from megavit.runtime.storage import write_file, writing
from megavit.training.budget.measure import measure_step, measure_validation
from megavit.training.checkpoint.checkpoint import list_checkpoints, load_checkpoint, remove_incomplete
from megavit.training.clock import Clock, RunLength, TimeBudgetPlan
from megavit.training.context import RunContext, TrainSetup
from megavit.training.data import TrainLoader, validation_batch_size
from megavit.training.history import EpochRecord
from megavit.training.loop.recovery import fit_with_recovery
from megavit.training.optim.lora import FinetuneMethod, merge_lora, scale_learning_rate, unfreeze
from megavit.training.state import TrainState
from megavit.training.task import Task

STAGE = "stage.json"
# Upper limit of a stage with a time budget, the larger of the two; longer training would memorize small datasets.
# Where others may follow, the last layers leave them time. What learns as from scratch learns in more.
MAX_EPOCHS, MAX_STEPS, MAX_EPOCHS_BEFORE_OTHERS, MAX_EPOCHS_FROM_PRETRAINING = 30, 300, 5, 300
# A stage is skipped if the time suffices only for fewer steps.
MIN_STEPS = 20
MEASURING_SECONDS = 0.5
# Number of held-out images of each process that a validation is measured on.
MEASURED_IMAGES = 32


@dataclass(frozen=True)
class StageInputs:
    """The inputs of a stage: a pretrained model with a head, the task, and loaders of training and held-out images.

    `max_epochs` are enough, with a time budget.
    """

    model: MegaVit
    task: Task
    train_loader: TrainLoader
    held_out_loader: TrainLoader
    max_epochs: int = MAX_EPOCHS


@dataclass(frozen=True)
class StageResult:
    """The result of a stage.

    Attributes:
        model: averaged weights after the last step, with LoRA merged; in distributed runs, in the main process only.
            The best epoch is not used, as it would be selected on the images that methods are compared on.
        logits: (N, outputs) float32 logits of the held-out images.
        seconds: duration, excluding pauses.
        skipped: number of steps skipped because of a nonfinite or outlier gradient.
    """

    model: MegaVit
    logits: Tensor
    history: list[EpochRecord]
    seconds: float
    steps: int
    skipped: int


def train_stage(
    ctx: RunContext,
    inputs: StageInputs,
    method: FinetuneMethod,
    budget_seconds: float | None,
    *,
    force: bool = True,
) -> StageResult | None:
    """Train a copy of the model by `method`, starting or resuming the stage in the context's `run_dir`.

    A new stage takes `budget_seconds`, or the recipe's epochs if None. If fewer than `MIN_STEPS` fit, the result is
    None unless `force` is set.

    Raises:
        Interrupted, OutputError, TrainingError: as in `megavit.training.loop.recovery.fit_with_recovery`.
    """
    clock, folder, dist = Clock(now=ctx.clock.now, started=ctx.clock.now()), ctx.run_dir, ctx.dist
    task = inputs.task
    task = replace(task, recipe=replace(task.recipe, optimizer=scale_learning_rate(task.recipe.optimizer, method)))
    inputs = replace(inputs, task=task)
    seed_all(task.recipe.run.seed)
    model = copy.deepcopy(inputs.model)
    unfreeze(model, method, task.recipe.finetune.rank)
    length = dist.run_on_main(lambda: read_stage(folder)) or plan_stage(ctx, inputs, model, budget_seconds)
    if length is None and not force:
        return None
    length = length or RunLength(steps=MIN_STEPS, time=None)
    ctx.parallel.param_dtype = task.dtype
    state = TrainState.create(model, task.recipe.optimizer, ctx.parallel)
    dist.run_on_main(lambda: write_stage(folder, length))
    dist.run_on_main(lambda: remove_incomplete(folder / "checkpoints"))
    if dist.run_on_main(lambda: list_checkpoints(folder / "checkpoints")):
        for fault in load_checkpoint(folder / "checkpoints", state):
            ctx.reporter.say(f"skipped a damaged checkpoint: {fault}")
    setup = TrainSetup(state, task, inputs.train_loader, inputs.held_out_loader, length.make_budget())
    fit_with_recovery(replace(ctx, clock=clock.after(state.seconds)), setup)
    model = state.ema_model if dist.is_distributed else merge_lora(state.ema_model)
    logits = inputs.held_out_loader.map(
        lambda batches: compute_logits(model, batches, task.preprocessing, task.dtype),
        ctx.parallel,
        validation_batch_size(model.config, ctx.device),
    )
    if dist.is_distributed:
        from megavit.training.checkpoint.distributed import gather_full_state

        state.best = state.ema_model.state_dict()
        model = gather_full_state(state).ema_model
    return StageResult(model, logits, state.history, state.seconds, state.step, state.skipped)


def plan_stage(ctx: RunContext, inputs: StageInputs, model: MegaVit, budget_seconds: float | None) -> RunLength | None:
    """Return the length of a stage of `model`, by the recipe's epochs or `budget_seconds`, or None if few steps fit."""
    task = inputs.task
    if budget_seconds is None:
        return RunLength(steps=task.steps_in(task.recipe.run.epochs or 1), time=None)
    until = ctx.clock.now() + budget_seconds
    state = TrainState.create(copy.deepcopy(model), task.recipe.optimizer, ctx.parallel)
    batch = next(inputs.train_loader.train_batches(task, 0, 1, ctx.parallel))
    _, step = measure_step(state, task, batch, MEASURING_SECONDS)
    if MIN_STEPS * step > budget_seconds:
        # What else the machine did for a moment is no reason to give up all of the time.
        step = min(step, measure_step(state, task, batch, MEASURING_SECONDS)[1])
    count = len(inputs.held_out_loader)
    some = inputs.held_out_loader.subset(torch.arange(min(MEASURED_IMAGES * ctx.parallel.dp_world_size, count)))
    validation = measure_validation(state, task, some, MEASURING_SECONDS) * count / len(some)
    total = ctx.dist.run_on_main(lambda: until - ctx.clock.now())
    enough = max(MAX_STEPS, math.ceil(inputs.max_epochs * task.num_images / task.batch_size))
    if enough * step + validation * enough * task.batch_size / task.num_images <= total:
        return RunLength(steps=enough, time=None)
    if total < MIN_STEPS * step + 2 * validation:
        return None
    return RunLength(
        steps=None,
        time=TimeBudgetPlan(total=budget_seconds, step=step, validation=validation, final_passes=2, finish=0.0),
    )


def read_stage(folder: Path) -> RunLength | None:
    """Return the length of a stage that has begun, None for a new one, or raise BundleError if its file is damaged."""
    path = folder / STAGE
    if not path.exists():
        return None
    try:
        return from_dict(RunLength, parse_json(path.read_bytes(), str(path)), str(path))
    except (ConfigError, OSError) as error:
        raise BundleError(f"the run in {folder} cannot be resumed: {error}") from None


def write_stage(folder: Path, length: RunLength) -> None:
    with writing("the run", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / STAGE, json.dumps(asdict(length), indent=1))
