"""A run that diverges goes back to a checkpoint from before, and on without the images that led there.

So did PaLM's (arXiv 2204.02311, section 5.1), which found that such images do harm only to the weights of that moment.
Which checkpoint it is follows from the steps alone, and not from the time at which others were written: a run that was
killed, before or after, comes to the same bits.
"""

import shutil
import sys
from contextlib import closing
from pathlib import Path

from megavit.errors import DivergedError, TrainingError
from megavit.train.checkpoint.checkpoint import (
    MARGIN,
    get_step,
    list_checkpoints,
    list_rollback_checkpoints,
    load_checkpoint,
)
from megavit.train.clock import Budget
from megavit.train.data import TrainLoader
from megavit.train.loop.build import batches_of, validator
from megavit.train.loop.logit_monitor import monitor_of
from megavit.train.loop.loop import Task, fit
from megavit.train.progress import Reporter
from megavit.train.signals import StopRequest
from megavit.train.spike_detection import SpikeDetector
from megavit.train.state import TrainState

MOST_ROLLBACKS = 3


def fit_with_recovery(
    state: TrainState,
    task: Task,
    budget: Budget,
    feeds: tuple[TrainLoader, TrainLoader],
    folder: Path,
    stop: StopRequest,
    watch: Reporter,
    began: float,
) -> None:
    """As `megavit.train.loop.loop.fit`, from where `state` stands, and from an earlier checkpoint where it diverges.

    Args:
        feeds: of the images to learn from, and of those for validation.

    Raises:
        TrainingError: when it has gone back several times already; or when there is no such checkpoint, and no number
            that it could recover from.
        And what `fit` raises.
    """
    training, validation = feeds
    validate = validator(validation, task, state.parallel)
    monitor = monitor_of(validation, task.preprocessing, task.dtype, state.parallel)
    while state.progress < 1:
        with closing(batches_of(training, task, state.step + state.left_out, sys.maxsize, state.parallel)) as batches:
            try:
                fit(state, task, budget, batches, validate, monitor, folder, stop, watch, began)
            except DivergedError as spike:
                watch.say(f"{spike}: {roll_back(folder / 'checkpoints', state, spike)}")


def roll_back(folder: Path, state: TrainState, spike: DivergedError) -> str:
    """Restore `state` from the newest lasting checkpoint before `spike`, and have it leave out the images since.

    Without one, a run whose loss is high, but a number, takes it as usual from now on: it may yet come down.

    Returns:
        What was done, for a person.

    Raises:
        TrainingError: as `fit_with_recovery`.
    """
    advice = "a lower learning rate usually helps"
    if state.rollbacks == MOST_ROLLBACKS:
        raise TrainingError(f"{spike}, although it went back {MOST_ROLLBACKS} times; {advice}") from spike
    if state.parallel.dist.is_distributed:
        from megavit.train.checkpoint.distributed import wait_for_save

        wait_for_save(state.parallel)
    upto = max(spike.since - MARGIN, state.returned_to)
    target = state.parallel.dist.run_on_main(lambda: keep_up_to(folder, upto))
    if target is None and state.spike_detector.diverged:
        state.spike_detector = SpikeDetector()
        return "going on as it is, for there is no checkpoint from well before"
    if target is None:
        raise TrainingError(f"{spike}, and there is no checkpoint from well before; {advice}") from spike
    seen, rollbacks = state.step + state.left_out, state.rollbacks + 1
    state.best = {}
    for optimizer in state.optimizers:
        optimizer.state.clear()
    load_checkpoint(folder, state)
    state.left_out, state.rollbacks, state.returned_to = seen - state.step, rollbacks, state.step
    return f"going on from step {state.step:,} with other images"


def keep_up_to(folder: Path, step: int) -> Path | None:
    """The newest lasting checkpoint up to `step`, if any; those after it are removed."""
    target = next(iter(list_rollback_checkpoints(folder, step)), None)
    if target is not None:
        for later in list_checkpoints(folder):
            if get_step(later) > get_step(target):
                shutil.rmtree(later, ignore_errors=True)
    return target
