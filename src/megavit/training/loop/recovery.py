"""Recover from divergence by rolling back to an earlier checkpoint and skipping the batches that led to it.

PaLM did the same, and found that such batches harm only the weights of that moment (arXiv 2204.02311, section 5.1). The
choice of checkpoint depends on steps alone, so that resumed runs stay bit-identical.
"""

import shutil
from pathlib import Path

from megavit.errors import DivergedError, TrainingError
from megavit.training.checkpoint.checkpoint import (
    MARGIN,
    get_step,
    list_checkpoints,
    list_rollback_checkpoints,
    load_checkpoint,
)
from megavit.training.context import RunContext, TrainSetup
from megavit.training.loop.loop import fit
from megavit.training.signals import StopRequest
from megavit.training.spike_detection import SpikeDetector
from megavit.training.state import TrainState

MAX_ROLLBACKS = 3


def fit_with_recovery(ctx: RunContext, setup: TrainSetup) -> None:
    """Train from the current state until its progress is 1, rolling back to an earlier checkpoint upon divergence.

    Raises:
        TrainingError: after too many rollbacks, or if the loss is not finite and no checkpoint is old enough.
        Interrupted, OutputError: as in `megavit.training.loop.loop.fit`.
    """
    stop = StopRequest()
    with stop.listening():
        while setup.state.progress < 1:
            try:
                fit(ctx, setup, stop)
            except DivergedError as spike:
                ctx.reporter.say(f"{spike}: {roll_back(ctx.run_dir / 'checkpoints', setup.state, spike)}")


def roll_back(folder: Path, state: TrainState, spike: DivergedError) -> str:
    """Restore the newest rollback checkpoint before `spike`, skip the batches since, and return a message about it.

    Without such a checkpoint, a run with a finite loss continues with a new spike detector.

    Raises:
        TrainingError: as in `fit_with_recovery`.
    """
    advice = "a lower learning rate usually helps"
    if state.rollbacks == MAX_ROLLBACKS:
        raise TrainingError(f"{spike}, even after {MAX_ROLLBACKS} rollbacks: {advice}") from spike
    if state.parallel.dist.is_distributed:
        from megavit.training.checkpoint.distributed import wait_for_save

        wait_for_save(state.parallel)
    max_step = max(spike.since - MARGIN, state.rollback_step)
    after = state.extended_at[-1] if state.extended_at else 0  # the progress before is that of another part
    checkpoint = state.parallel.dist.run_on_main(lambda: remove_later_checkpoints(folder, max_step, after))
    if checkpoint is None and state.spike_detector.diverged:
        state.spike_detector = SpikeDetector()
        return "continuing without a rollback, as no checkpoint is old enough"
    if checkpoint is None:
        raise TrainingError(f"{spike}, and no checkpoint is old enough to roll back to: {advice}") from spike
    batches, rollbacks = state.step + state.dropped_batches, state.rollbacks + 1
    state.best = {}
    for optimizer in state.optimizers:
        optimizer.state.clear()
    load_checkpoint(folder, state)
    state.dropped_batches, state.rollbacks, state.rollback_step = batches - state.step, rollbacks, state.step
    return f"rolling back to step {state.step:,} and continuing with other images"


def remove_later_checkpoints(folder: Path, max_step: int, after: int = 0) -> Path | None:
    """Return the newest rollback checkpoint after step `after` up to `max_step`, and remove all later checkpoints.

    Nothing is removed if there is none.
    """
    newest = next(iter(list_rollback_checkpoints(folder, max_step, after)), None)
    if newest is not None:
        for checkpoint in list_checkpoints(folder):
            if get_step(checkpoint) > get_step(newest):
                shutil.rmtree(checkpoint, ignore_errors=True)
    return newest
