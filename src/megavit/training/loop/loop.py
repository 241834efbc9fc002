"""The training loop, with validation, checkpoints and stops between its steps."""

import math
import sys
from contextlib import closing

from megavit.errors import DivergedError, Interrupted
from megavit.training.checkpoint.checkpoint import ROLLBACK_EVERY, save_checkpoint
from megavit.training.clock import StepProgress
from megavit.training.context import RunContext, TrainSetup
from megavit.training.history import EpochRecord
from megavit.training.loop.logit_monitor import LogitMonitor
from megavit.training.loop.prefetch import prefetch
from megavit.training.loop.step import train_step
from megavit.training.loop.validation import validate
from megavit.training.optim.optimizer import EXTENSION_PEAK, learning_rate
from megavit.training.signals import StopRequest
from megavit.training.tracking.log import RunLog


def fit(ctx: RunContext, setup: TrainSetup, stop: StopRequest) -> None:
    """Train from the current state until its progress is 1.

    Raises:
        DivergedError: if the loss is not finite for many steps or on the validation images, or stays far above its
            previous values (`megavit.training.spike_detection`).
        Interrupted: if a signal asked to stop; a checkpoint has been written.
        OutputError: if a checkpoint cannot be written; the previous one is still there.
    """
    state, task, budget = setup.state, setup.task, setup.budget
    clock, parallel, recipe = ctx.clock, ctx.parallel, task.recipe
    monitor = LogitMonitor(setup.val_loader, task, parallel)
    log = RunLog(ctx, setup)
    first_batch = state.step + state.dropped_batches
    step: StepProgress | None = None
    rate = step_seconds = val_seconds = 0.0
    saved_at = clock.now()
    (elapsed,) = parallel.all_reduce_max(clock.elapsed)
    loaded = setup.train_loader.train_batches(task, first_batch, sys.maxsize, parallel)
    with closing(prefetch(loaded, state.device)) as batches:
        while True:
            if step is not None:
                epoch_ended = task.epoch_at(state.step) > task.epoch_at(state.step - 1)
                val_seconds = 0.0
                if step.is_validation_due(state.validated, budget.min_validation_gap, epoch_ended):
                    began = clock.now()
                    record_epoch(ctx, setup, monitor, rate * recipe.optimizer.learning_rate)
                    log.write("validation", state.history[-1].to_dict())
                    ctx.check_tracker()
                    val_seconds = clock.now() - began
                    ctx.reporter.epoch(state.history[-1])
                    stop_early(ctx, setup)

                # The slowest process counts, so that all processes do the same steps.
                now = clock.now()
                save = now - saved_at >= recipe.run.checkpoint_seconds or state.step % ROLLBACK_EVERY == 0
                save, signal, elapsed, step_seconds, val_seconds = parallel.all_reduce_max(
                    save, stop.signal, now - clock.started, step_seconds, val_seconds
                )
                budget.record_step(step_seconds)
                if val_seconds:
                    budget.record_validation(val_seconds)
                state.seconds = elapsed

                if save or signal or state.progress == 1:
                    save_checkpoint(ctx.run_dir / "checkpoints", state, wait=bool(signal) or state.progress == 1)
                    saved_at = clock.now()
                    (elapsed,) = parallel.all_reduce_max(clock.elapsed)
                if state.progress == 1:
                    return
                if signal:
                    message = f"stopped as requested after step {state.step} of {step.steps}; all progress is saved"
                    raise Interrupted(message, int(signal))

            began = clock.now()
            step = budget.next_step(state.step, state.progress, elapsed)
            batch = next(batches)
            rate = learning_rate(step.middle, EXTENSION_PEAK if state.extended_at else 1.0, recipe.schedule)
            loss = train_step(state, task, batch, rate, step.steps, objective=setup.objective)
            state.progress = step.after
            step_seconds = clock.now() - began
            log.step(state, loss, step_seconds, rate * recipe.optimizer.learning_rate)
            if math.isnan(loss) and state.skipped_in_a_row <= 1:
                ctx.reporter.say(f"step {state.step:,} was skipped: its gradient is an outlier or not finite")
            ctx.reporter.step(state.step, step.steps, loss)


def record_epoch(ctx: RunContext, setup: TrainSetup, monitor: LogitMonitor, learning_rate: float) -> None:
    """Validate the averaged weights, and add the metrics to the history."""
    state, task, objective = setup.state, setup.task, setup.objective
    found = validate(state.ema_model, setup) if objective is None else objective.validate(state.ema_model, setup)
    if not math.isfinite(found.loss):
        raise DivergedError(f"the validation loss is not finite after step {state.step:,}", state.step)
    if found.warning:
        ctx.reporter.say(found.warning)
    largest = monitor(state.model)
    record = EpochRecord(
        epoch=task.fractional_epoch_at(state.step),
        step=state.step,
        seconds=ctx.clock.elapsed,
        train_loss=state.loss_sum / state.loss_steps if state.loss_steps else None,
        val_loss=found.loss,
        val_metric=found.metric,
        learning_rate=learning_rate,
        metric=task.metric if objective is None else objective.metric,
        attention_logit=_finite(largest.attention),
        head_logit=_finite(largest.head),
        effective_rank=found.effective_rank,
        embedding_std=found.embedding_std,
    )
    state.loss_sum, state.loss_steps = 0.0, 0
    state.validated = state.progress
    state.record(record)


def stop_early(ctx: RunContext, setup: TrainSetup) -> None:
    """End the run after the last validation if the best one is at least the recipe's `patience` epochs ago."""
    state, patience = setup.state, setup.task.recipe.run.patience
    if patience is not None and state.progress < 1 and state.epochs_since_best() >= patience:
        state.progress, state.stopped_early = 1.0, True
        ctx.reporter.say(
            f"stopping early: validation {setup.task.metric} has not become better in {state.epochs_since_best():g} "
            "epochs"
        )


def _finite(logit: float) -> float | None:
    return logit if math.isfinite(logit) else None
