"""Recovery from divergence: roll back to an earlier checkpoint and go on without the images that led there.

So did PaLM's (arXiv 2204.02311, section 5.1), which found that such images do harm only to the weights of that moment.
Which checkpoint it is follows from the steps alone, and not from the time at which others were written: a run that was
killed, before or after, comes to the same bits.
"""

import shutil
from pathlib import Path

from megavit.errors import DivergedError, TrainingError
from megavit.train.checkpoint.checkpoint import (
    MARGIN,
    get_step,
    list_checkpoints,
    list_rollback_checkpoints,
    load_checkpoint,
)
from megavit.train.context import RunContext, TrainSetup
from megavit.train.loop.loop import fit
from megavit.train.signals import StopRequest
from megavit.train.spike_detection import SpikeDetector
from megavit.train.state import TrainState

MAX_ROLLBACKS = 3


def fit_with_recovery(ctx: RunContext, setup: TrainSetup) -> None:
    """Train from where the state stands, and from an earlier checkpoint where it diverges, until its progress is 1.

    Raises:
        TrainingError: when it was rolled back several times already; or when there is no such checkpoint, and no number
            that it could recover from.
        And what `megavit.train.loop.loop.fit` raises.
    """
    stop = StopRequest()
    with stop.listening():
        while setup.state.progress < 1:
            try:
                fit(ctx, setup, stop)
            except DivergedError as spike:
                ctx.reporter.say(f"{spike}: {roll_back(ctx.run_dir / 'checkpoints', setup.state, spike)}")


def roll_back(folder: Path, state: TrainState, spike: DivergedError) -> str:
    """Restore `state` from the newest rollback checkpoint before `spike`, and have it leave out the images since.

    Without one, a run whose loss is high, but a number, takes it as usual from now on: it may yet come down.

    Returns:
        What was done, for a person.

    Raises:
        TrainingError: as `fit_with_recovery`.
    """
    advice = "a lower learning rate usually helps"
    if state.rollbacks == MAX_ROLLBACKS:
        raise TrainingError(f"{spike}, although it went back {MAX_ROLLBACKS} times; {advice}") from spike
    if state.parallel.dist.is_distributed:
        from megavit.train.checkpoint.distributed import wait_for_save

        wait_for_save(state.parallel)
    upto = max(spike.since - MARGIN, state.rollback_step)
    checkpoint = state.parallel.dist.run_on_main(lambda: remove_later_checkpoints(folder, upto))
    if checkpoint is None and state.spike_detector.diverged:
        state.spike_detector = SpikeDetector()
        return "going on as it is, for there is no checkpoint from well before"
    if checkpoint is None:
        raise TrainingError(f"{spike}, and there is no checkpoint from well before; {advice}") from spike
    batches, rollbacks = state.step + state.dropped_batches, state.rollbacks + 1
    state.best = {}
    for optimizer in state.optimizers:
        optimizer.state.clear()
    load_checkpoint(folder, state)
    state.dropped_batches, state.rollbacks, state.rollback_step = batches - state.step, rollbacks, state.step
    return f"going on from step {state.step:,} with other images"


def remove_later_checkpoints(folder: Path, step: int) -> Path | None:
    """Return the newest rollback checkpoint up to `step`, if any, and remove those after it."""
    newest = next(iter(list_rollback_checkpoints(folder, step)), None)
    if newest is not None:
        for checkpoint in list_checkpoints(folder):
            if get_step(checkpoint) > get_step(newest):
                shutil.rmtree(checkpoint, ignore_errors=True)
    return newest
