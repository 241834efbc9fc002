"""One training by gradient among the several of a fine-tuning, in a folder of its own, that survives a stop.

FOLDER/stage.json     how long it is, decided before its first step
FOLDER/log.jsonl      a line an epoch
FOLDER/checkpoints/   the whole state
"""

import copy
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from megavit.config.checks import check_integer
from megavit.config.serialization import from_dict, parse_json
from megavit.distributed.context import ParallelContext
from megavit.errors import BundleError, ConfigError
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_logits
from megavit.runtime.seeds import seed_all
from megavit.runtime.storage import write_file, writing
from megavit.train.budget.measure import measure, validation_seconds
from megavit.train.checkpoint.checkpoint import list_checkpoints, load_checkpoint, remove_incomplete
from megavit.train.clock import TimeBudgetPlan, make_budget
from megavit.train.data import TrainLoader
from megavit.train.history import EpochRecord
from megavit.train.loop.build import batches_of, steps_of, together
from megavit.train.loop.loop import Task
from megavit.train.loop.recovery import fit_with_recovery
from megavit.train.optim.lora import Trained, merge_lora, optimizer_of, set_free
from megavit.train.progress import Reporter
from megavit.train.signals import StopRequest
from megavit.train.state import TrainState

STAGE = "stage.json"
# Where the minutes allow more, a stage ends after so many passes, or steps, whichever are more: what has been
# trained before needs no more, and few images would be learned by heart.
PASSES, STEPS = 30, 300
# With fewer steps than that, a stage is not worth its beginning.
LEAST_STEPS = 20
# Seconds of measuring a stage's steps and its validation.
MEASURING = 0.5


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """How long a stage is, as `megavit.train.clock.make_budget` takes it, and whether it is trained at all.

    Attributes:
        steps: in all; None where the clock decides.
        time: of a stage by the clock; None where the steps are given.
    """

    steps: int | None
    time: TimeBudgetPlan | None

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_integer("steps", self.steps, minimum=1)
        make_budget(self.steps, self.time)


@dataclass(frozen=True)
class Stage:
    """What came of a stage.

    Attributes:
        model: the average of its weights after the last step, an ordinary MegaVit; of several processes, in the
            leader. The best of its epochs would be
            chosen by the very images that rungs are compared on, and look better than it is.
        logits: (N, outputs) of the images held back, float32.
        history: its validations.
        seconds: that it took, pauses left out.
        steps: that it did.
        skipped: steps whose gradient was not finite.
    """

    model: MegaVit
    logits: Tensor
    history: list[EpochRecord]
    seconds: float
    steps: int
    skipped: int


def train_stage(
    folder: Path,
    model: MegaVit,
    rung: Trained,
    task: Task,
    feeds: tuple[TrainLoader, TrainLoader],
    limit: float | None,
    watch: Reporter,
    *,
    must: bool = True,
    parallel: ParallelContext | None = None,
) -> Stage | None:
    """Train what `rung` leaves free of a copy of `model`, from where the stage in `folder` stands.

    Args:
        model: with a head to begin with; stays as it is.
        task: of the images learned from; its recipe's optimizer is set to the rung's.
        feeds: of the images learned from, and of those held back.
        limit: seconds for it; None: as many passes as the recipe's epochs. A stage that was begun keeps its length.
        must: train even where the limit leaves only a few steps; else the answer is None.
        parallel: the processes that train, for the rung "all"; None: this one alone.

    Raises:
        Interrupted, OutputError, TrainingError: as `megavit.train.loop.loop.fit`.
    """
    began = time.monotonic()
    parallel = parallel or ParallelContext()
    training, held = feeds
    task = replace(task, recipe=replace(task.recipe, optimizer=optimizer_of(task.recipe.optimizer, rung)))
    seed_all(task.recipe.run.seed)
    model = copy.deepcopy(model)
    set_free(model, rung, task.recipe.tune.rank)
    plan = parallel.dist.run_on_main(lambda: read_stage(folder)) or plan_stage(
        model, task, training, held, limit, parallel
    )
    if plan is None and not must:
        return None
    plan = plan or StagePlan(steps=LEAST_STEPS, time=None)
    parallel.param_dtype = task.dtype
    state = TrainState.fresh(model, task.recipe.optimizer, parallel)
    parallel.dist.run_on_main(lambda: write_stage(folder, plan))
    parallel.dist.run_on_main(lambda: remove_incomplete(folder / "checkpoints"))
    if parallel.dist.run_on_main(lambda: list_checkpoints(folder / "checkpoints")):
        for fault in load_checkpoint(folder / "checkpoints", state):
            watch.say(f"left out a damaged checkpoint: {fault}")
    stop, budget = StopRequest(), make_budget(plan.steps, plan.time)
    with stop.listening():
        fit_with_recovery(state, task, budget, feeds, folder, stop, watch, began - state.seconds)
    average = state.average if parallel.dist.is_distributed else merge_lora(state.average)
    logits = together(lambda batches: compute_logits(average, batches, task.preprocessing), held, parallel)
    return Stage(
        whole_in_leader(state) if parallel.dist.is_distributed else average,
        logits,
        state.history,
        state.seconds,
        state.step,
        state.skipped,
    )


def whole_in_leader(state: TrainState) -> MegaVit:
    """The average of several processes, whole in the leader; as it is in the others."""
    from megavit.train.checkpoint.distributed import gather_full_state

    state.best = state.average.state_dict()
    return gather_full_state(state).average


def plan_stage(
    model: MegaVit,
    task: Task,
    training: TrainLoader,
    held: TrainLoader,
    limit: float | None,
    parallel: ParallelContext,
) -> StagePlan | None:
    """How long a stage is to be: the recipe's epochs, or what is enough, or what fits into `limit` seconds."""
    if limit is None:
        return StagePlan(steps=steps_of(task, task.recipe.run.epochs or 1), time=None)
    until = time.monotonic() + limit
    state = TrainState.fresh(copy.deepcopy(model), task.recipe.optimizer, parallel)
    _, step = measure(state, task, next(batches_of(training, task, 0, 1, parallel)), MEASURING)
    validation = validation_seconds(state, task, held, MEASURING)
    limit = parallel.dist.run_on_main(lambda: until - time.monotonic())
    enough = max(STEPS, math.ceil(PASSES * task.images / task.batch_size))
    if enough * step + validation * enough * task.batch_size / task.images <= limit:
        return StagePlan(steps=enough, time=None)
    if limit < LEAST_STEPS * step + 2 * validation:
        return None
    return StagePlan(
        steps=None, time=TimeBudgetPlan(total=limit, step=step, validation=validation, final_passes=2, finish=0.0)
    )


def read_stage(folder: Path) -> StagePlan | None:
    """The length of a stage that was begun.

    Raises:
        BundleError: when it is damaged.
    """
    path = folder / STAGE
    if not path.exists():
        return None
    try:
        return from_dict(StagePlan, parse_json(path.read_bytes(), str(path)), str(path))
    except (ConfigError, OSError) as error:
        raise BundleError(f"the run in {folder} cannot be resumed: {error}") from None


def write_stage(folder: Path, plan: StagePlan) -> None:
    with writing("the run", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / STAGE, json.dumps(asdict(plan), indent=1))
