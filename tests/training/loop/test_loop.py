import itertools
import math
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import AugmentRecipe, DataRecipe, ScheduleRecipe
from megavit.distributed.context import ParallelContext
from megavit.errors import Interrupted, TrainingError
from megavit.predict.forward import compute_logits
from megavit.training.checkpoint.checkpoint import load_checkpoint
from megavit.training.clock import Clock, TimeBudget, TimeBudgetPlan
from megavit.training.history import EpochRecord, Validation
from megavit.training.loop import loop
from megavit.training.loop.logit_monitor import MaxLogits
from megavit.training.loop.loop import fit
from megavit.training.loop.step import MAX_SKIPPED_IN_A_ROW, backward, mix, progressive_resize, train_step
from megavit.training.optim.loss import BinaryCrossEntropy, CrossEntropy, SmoothL1
from megavit.training.progress import NullReporter
from megavit.training.signals import StopRequest
from megavit.training.state import TrainState
from megavit.training.task import Task
from tests.helpers.listener import Listener
from tests.helpers.training import (
    BATCH,
    CLASSES,
    STEPS,
    batch_at,
    fit_task,
    fresh_state,
    make_context,
    make_dataset,
    make_setup,
    make_task,
    read_validations,
    same_weights,
)


def run(state, task, folder, stop=None, reporter=None, dataset=None):
    fit_task(make_context(folder, dataset, reporter), state, task, stop)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TrainState:
    """A run with seed 0 that nobody stopped."""
    state = fresh_state(make_task())
    run(state, make_task(), tmp_path_factory.mktemp("undisturbed"))
    return state


def test_a_run_does_its_steps_and_validates_each_epoch_and_quarter(tmp_path):
    task, state = make_task(), fresh_state(make_task())
    run(state, task, tmp_path)
    assert state.step == 12
    expected = [(3, 0.75), (4, 1), (7, 1.75), (8, 2), (11, 2.75), (12, 3)]
    assert [(epoch.step, epoch.epoch) for epoch in state.history] == expected
    logged = read_validations(tmp_path)
    assert [epoch["step"] for epoch in logged] == [step for step, _ in expected]
    assert all(math.isfinite(epoch["train_loss"]) and epoch["train_loss"] > 0 for epoch in logged)
    assert all(epoch["attention_logit"] > 0 and epoch["head_logit"] > 0 for epoch in logged)


def test_logits_that_are_no_finite_numbers_are_recorded_as_none(tmp_path, monkeypatch):
    task, state = make_task(), fresh_state(make_task())
    monkeypatch.setattr(loop.LogitMonitor, "__call__", lambda *_: MaxLogits(math.nan, math.inf))
    run(state, task, tmp_path)
    assert all((epoch.attention_logit, epoch.head_logit) == (None, None) for epoch in state.history)
    load_checkpoint(tmp_path / "checkpoints", fresh_state(task))


def test_training_lowers_the_loss_on_what_can_be_learned():
    task, state = make_task(), fresh_state(make_task())
    plain = replace(task, recipe=replace(task.recipe, augment=AugmentRecipe()))
    losses = [train_step(state, plain, batch_at(0), rate=1.0, steps=STEPS) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path, undisturbed):
    task = make_task()
    for seed in (0, 1):
        state = fresh_state(task)
        seeded = replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, seed=seed)))
        run(state, seeded, tmp_path / str(seed))
        assert same_weights(undisturbed.model, state.model) == (seed == 0)


def test_random_numbers_of_others_do_not_change_a_run(tmp_path, undisturbed):
    task, disturbed = make_task(), fresh_state(make_task())

    class Disturbing(NullReporter):
        def step(self, step: int, steps: int, loss: float) -> None:
            torch.rand(step)

    run(disturbed, task, tmp_path, reporter=Disturbing())
    assert same_weights(undisturbed.model, disturbed.model)


def test_a_stop_request_is_granted_after_its_step_with_everything_saved(tmp_path, undisturbed):
    task, whole, stopped = make_task(), undisturbed, fresh_state(make_task())
    stop = StopRequest()

    class StopAtFive(NullReporter):
        def step(self, step: int, steps: int, loss: float) -> None:
            if step == 5:
                stop.signal = signal.SIGTERM

    with pytest.raises(Interrupted, match="after step 5 of 12") as stopping:
        run(stopped, task, tmp_path / "stopped", stop, StopAtFive())
    assert stopping.value.exit_code == 128 + signal.SIGTERM
    resumed = fresh_state(task)
    load_checkpoint(tmp_path / "stopped" / "checkpoints", resumed)
    assert resumed.step == 5
    run(resumed, task, tmp_path / "stopped")
    assert same_weights(resumed.model, whole.model) and same_weights(resumed.ema_model, whole.ema_model)
    assert [replace(e, seconds=0) for e in resumed.history] == [replace(e, seconds=0) for e in whole.history]


def test_a_step_without_a_finite_gradient_changes_nothing_but_its_count():
    task, state = make_task(), fresh_state(make_task())
    train_step(state, task, batch_at(0), rate=1e-3, steps=STEPS)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    poisoned = replace(task, loss=CrossEntropy(weights=torch.full((CLASSES,), math.nan)))
    assert math.isnan(train_step(state, poisoned, batch_at(1), rate=1e-3, steps=STEPS))
    assert (state.step, state.skipped, state.skipped_in_a_row, state.loss_steps) == (2, 1, 1, 1)
    after = state.tensors()
    assert all(torch.equal(before[name], after[name]) for name in before)
    train_step(state, task, batch_at(2), rate=1e-3, steps=STEPS)
    assert (state.skipped, state.skipped_in_a_row) == (1, 0)


def test_a_run_that_is_no_longer_a_number_ends_with_advice():
    task, state = make_task(), fresh_state(make_task())
    poisoned = replace(task, loss=CrossEntropy(weights=torch.full((CLASSES,), math.nan)))
    with pytest.raises(TrainingError, match="the loss or its gradient was not finite for 20 steps after step 0"):
        for step in range(MAX_SKIPPED_IN_A_ROW):
            train_step(state, poisoned, batch_at(step), rate=1e-3, steps=STEPS)
    assert state.skipped == MAX_SKIPPED_IN_A_ROW


def test_mixing_keeps_every_images_share_of_its_labels():
    images, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % CLASSES
    targets = make_task().soft_targets(labels)
    same, hard = mix(images, targets, AugmentRecipe())
    assert torch.equal(same, images) and torch.equal(hard.argmax(1), labels)
    torch.manual_seed(0)
    for recipe in (AugmentRecipe(mixup=1.0), AugmentRecipe(cutmix=1.0), AugmentRecipe(mixup=1.0, cutmix=1.0)):
        mixed, soft = mix(images, targets, recipe)
        assert mixed.shape == images.shape and not torch.equal(mixed, images)
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(8))
        assert soft.sum(dim=0).allclose(hard.sum(dim=0), atol=1e-5)


def test_class_weights_change_what_counts():
    task = make_task()
    plain, weighted = fresh_state(task), fresh_state(task)
    a = train_step(plain, task, batch_at(0), rate=1e-3, steps=STEPS)
    weights = CrossEntropy(0.1, torch.tensor([10.0, 1.0, 1.0]))
    b = train_step(weighted, replace(task, loss=weights), batch_at(0), rate=1e-3, steps=STEPS)
    assert a != b and not same_weights(plain.model, weighted.model)


def test_a_validation_loss_that_is_no_number_ends_the_run_and_is_not_recorded(tmp_path, monkeypatch):
    task, state = make_task(), fresh_state(make_task())
    monkeypatch.setattr(loop, "validate", lambda *_: Validation(math.nan, 0.5))
    with pytest.raises(TrainingError, match="the validation loss is not finite"):
        run(state, task, tmp_path)
    assert state.step == 3 and not state.history and not (tmp_path / "log.jsonl").exists()


BY_STEP = {3: 0.5, 4: 0.6, 7: 0.6, 8: 0.6, 11: 0.6, 12: 0.6}  # epochs 0.75, 1, 1.75, 2, 2.75 and 3


def make_patient_task(patience: int) -> Task:
    task = make_task()
    return replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, patience=patience)))


@pytest.mark.parametrize(("patience", "last"), [(1, 8), (2, 12), (3, 12)])
def test_a_run_ends_when_validation_has_not_become_better_for_so_many_epochs(tmp_path, monkeypatch, patience, last):
    monkeypatch.setattr(loop, "validate", lambda _, setup: Validation(1.0, BY_STEP[setup.state.step]))
    said, state = Listener(), fresh_state(make_task())
    run(state, make_patient_task(patience), tmp_path, reporter=said)
    assert (state.step, state.progress, state.stopped_early) == (last, 1, last == 8)
    assert any("has not become better in 1 epochs" in line for line in said.lines) == (last == 8)
    saved = fresh_state(make_task())
    load_checkpoint(tmp_path / "checkpoints", saved)
    assert (saved.step, saved.progress, saved.stopped_early) == (last, 1, last == 8)


def test_a_run_that_was_stopped_and_resumed_ends_early_at_the_same_step(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "validate", lambda _, setup: Validation(1.0, BY_STEP[setup.state.step]))
    task, stop = make_patient_task(1), StopRequest()
    stop.signal = signal.SIGTERM
    for _ in range(7):
        with pytest.raises(Interrupted):
            resumed = fresh_state(task)
            if (tmp_path / "checkpoints").exists():
                load_checkpoint(tmp_path / "checkpoints", resumed)
            run(resumed, task, tmp_path, stop)
    load_checkpoint(tmp_path / "checkpoints", state := fresh_state(task))
    run(state, task, tmp_path)
    assert (state.step, state.stopped_early) == (8, True)


def test_in_an_extension_only_its_own_validations_count_for_patience():
    state = fresh_state(make_task())
    records = [
        EpochRecord(epoch, epoch, 1, 1, 1, value, 1) for epoch, value in ((1, 0.9), (2, 0.5), (3, 0.6), (4, 0.6))
    ]
    state.history, state.extended_at = records, [1]
    assert state.epochs_since_best() == 1
    state.extended_at = []
    assert state.epochs_since_best() == 3
    state.extended_at = [4]
    assert state.epochs_since_best() == 0


def test_where_every_step_was_skipped_there_is_no_loss_to_tell(tmp_path):
    task, state = make_task(), fresh_state(make_task())
    poisoned = replace(task, loss=CrossEntropy(weights=torch.full((CLASSES,), math.nan)))
    run(state, poisoned, tmp_path)
    assert state.skipped == STEPS and all(epoch.train_loss is None for epoch in state.history)
    resumed = fresh_state(task)
    load_checkpoint(tmp_path / "checkpoints", resumed)
    assert resumed.history == state.history


def test_a_run_with_a_time_budget_goes_down_to_rate_zero_and_validates_at_its_end(tmp_path):
    task, state, ticks = make_task(), fresh_state(make_task()), itertools.count()
    # A clock on which every look takes a hundredth of a second.
    ctx = replace(make_context(tmp_path), clock=Clock(started=0.0, now=lambda: next(ticks) / 100))
    budget = TimeBudget(TimeBudgetPlan(total=3.0, step=0.05, validation=0.01, final_passes=1, finish=1.0))
    fit(ctx, make_setup(ctx, state, task, budget), StopRequest())
    assert state.progress == 1 and state.history[-1].step == state.step
    assert 0 < state.history[-1].learning_rate < 0.2 * task.recipe.optimizer.learning_rate
    assert 1.5 < state.seconds < 3


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (BinaryCrossEntropy(torch.tensor([1.0, 2.0, 5.0])), torch.eye(3, dtype=torch.bool)[torch.arange(8) % 3]),
        (SmoothL1(100.0, 5.0), torch.linspace(90, 110, 8)),
    ],
)
def test_labels_and_scores_are_learned_and_can_be_mixed(loss, targets):
    task, state = make_task(), fresh_state(make_task())
    images = torch.randint(0, 256, (8, 1, 4, 4), dtype=torch.uint8)
    outputs = 1 if targets.is_floating_point() else 3
    if outputs == 1:
        state.model.mlp_head = nn.Linear(state.model.config.dim, 1)
        state = type(state).create(state.model, task.recipe.optimizer)
    task = replace(task, loss=loss, num_classes=outputs)
    mixed, soft = mix(images.float(), task.soft_targets(targets), AugmentRecipe(mixup=1.0))
    assert mixed.shape == images.shape and soft.shape == (8, outputs) and not torch.equal(mixed, images.float())
    torch.testing.assert_close(soft.mean(dim=0), targets.float().view(8, outputs).mean(dim=0))
    plain = replace(task, recipe=replace(task.recipe, augment=AugmentRecipe()))
    losses = [train_step(state, plain, (images, targets), rate=1.0, steps=60) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]


SIDES = ((4, 4), (2, 8), (8, 2), (5, 5), (2, 6), (4, 4), (10, 2), (8, 2))


def task_of_shapes() -> Task:
    """The tiny task, with the images' shapes kept and everything random on but the mixing of pairs."""
    task = make_task()
    recipe = replace(
        task.recipe,
        data=DataRecipe(keep_aspect=True),
        augment=replace(task.recipe.augment, mixup=0.0, cutmix=0.0),
        schedule=ScheduleRecipe(early=0.5, patch_drop=0.25, scale=0.5),
    )
    size = Preprocessing(height=4, width=4, channels=1, keep_aspect=True, patch_size=2)
    return replace(task, recipe=recipe, preprocessing=size)


def shapes_at(step: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    random = torch.Generator().manual_seed(step)
    images = [torch.randint(0, 256, (1, *size), generator=random, dtype=torch.uint8) for size in SIDES]
    return images, torch.randint(0, CLASSES, (len(SIDES),), generator=random)


def test_a_run_on_images_of_different_sizes_stops_and_goes_on_to_the_bit(tmp_path):
    task, whole, stopped = task_of_shapes(), fresh_state(make_task()), fresh_state(make_task())
    stop = StopRequest()

    class StopAtFour(NullReporter):
        def step(self, step: int, steps: int, loss: float) -> None:
            assert math.isfinite(loss)
            stop.signal = signal.SIGTERM if step == 4 else 0

    dataset = make_dataset(SIDES)
    run(whole, task, tmp_path / "whole", dataset=dataset)
    with pytest.raises(Interrupted):
        run(stopped, task, tmp_path / "stopped", stop, StopAtFour(), dataset)
    resumed = fresh_state(task)
    load_checkpoint(tmp_path / "stopped" / "checkpoints", resumed)
    assert resumed.step == 4
    run(resumed, task, tmp_path / "stopped", dataset=dataset)
    assert same_weights(resumed.model, whole.model) and same_weights(resumed.ema_model, whole.ema_model)


def test_early_steps_are_on_smaller_images_each_of_its_own_shape():
    task, state = task_of_shapes(), fresh_state(make_task())
    images = [torch.zeros(1, 8, 16), torch.zeros(1, 4, 2)]
    smaller = progressive_resize(images, state, task.recipe.schedule)
    assert [tuple(image.shape[1:]) for image in smaller] == [(4, 8), (2, 2)]
    state.progress = 0.9
    assert progressive_resize(images, state, task.recipe.schedule) is images


def test_what_shows_only_in_the_shape_is_learned():
    task = task_of_shapes()
    plain = replace(task, recipe=replace(task.recipe, augment=AugmentRecipe(), schedule=ScheduleRecipe()))
    state = fresh_state(plain)
    images = [torch.full((1, *size), 128, dtype=torch.uint8) for size in [(2, 8), (8, 2), (4, 4)] * 4]
    labels = torch.arange(3).repeat(4)
    for _ in range(80):
        train_step(state, plain, (images, labels), rate=1.0, steps=80)
    (logits,) = compute_logits(state.model, [images], plain.preprocessing)
    assert torch.equal(logits.argmax(dim=1), labels)


@pytest.mark.parametrize("loss", [CrossEntropy(0.1, weights=torch.tensor([1.0, 2.0, 5.0])), BinaryCrossEntropy()])
@pytest.mark.parametrize("parts", [2, 3, 8, 20])
def test_a_step_in_parts_has_the_gradient_of_the_whole(loss, parts):
    images, targets = torch.randn(BATCH, 1, 4, 4), torch.rand(BATCH, CLASSES)
    targets /= targets.sum(dim=1, keepdim=True)
    found = []
    for count in (1, parts):
        task = replace(make_task(), loss=loss)
        task = replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, gradient_accumulation=count)))
        model = fresh_state(task).model.eval()  # nothing random
        value = torch.stack(backward(model, (images, targets), task, ParallelContext())).sum()
        found.append((value, [weight.grad for weight in model.parameters()]))
    (whole, expected), (divided, gradients) = found
    assert divided.item() == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(gradients, expected)


def test_images_of_different_sizes_are_learned_in_parts_too():
    task, state = task_of_shapes(), fresh_state(make_task())
    task = replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, gradient_accumulation=3)))
    assert math.isfinite(train_step(state, task, shapes_at(0), rate=1e-3, steps=STEPS)) and state.step == 1


def test_an_extension_has_no_cheaper_steps_early_on():
    state = fresh_state(make_task())
    schedule = ScheduleRecipe(early=0.5)
    assert state.is_early(schedule)
    state.step, state.progress = STEPS, 1.0
    state.extend()
    assert state.progress == 0 and not state.is_early(schedule)
