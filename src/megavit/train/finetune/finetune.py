"""A run that begins with weights that have been trained before: from them and the images to the bundle.

What comes before the first training by gradient is short and follows from the weights and the images; a run that
goes on after a stop does it again. Each training by gradient goes on from its own checkpoint.
"""

import copy
from dataclasses import replace
from pathlib import Path

import torch

from megavit.config.recipe import Recipe
from megavit.data.dataset import LabeledImages
from megavit.data.targets import num_outputs, target_tensor
from megavit.distributed.context import ParallelContext
from megavit.errors import DataError
from megavit.evaluate.probes.cross_validation import NUM_FOLDS
from megavit.model.vit import MegaVit
from megavit.runtime.seeds import seed_all
from megavit.runtime.storage import check_writable
from megavit.train.budget.measure import measure
from megavit.train.data import TrainLoader
from megavit.train.finetune.progressive import Tuning, climb, describe
from megavit.train.finetune.tuner import Start, Tuner, is_few
from megavit.train.loop.build import batches_of, canvas, task_of
from megavit.train.optim.lora import TRAINED
from megavit.train.optim.loss import start_at_shares
from megavit.train.progress import Reporter
from megavit.train.report.finalize import Trained, finish
from megavit.train.run_dir import Plan, resumable, write_plan
from megavit.train.setup.memory import check_memory
from megavit.train.setup.parallel import check_layout, part_of_batch
from megavit.train.setup.resolve import tuned_config, tuned_preprocessing
from megavit.train.state import TrainState
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.pretrained import PretrainedModel, fingerprint, load_pretrained


def begin_tuning(
    out: Path,
    source: str,
    recipe: Recipe,
    init: PretrainedModel,
    images: LabeledImages,
    device: torch.device,
    watch: Reporter,
    began: float,
    parallel: ParallelContext | None = None,
) -> Trained:
    """Tune to `images` as a resolved recipe says, from its first step.

    Args:
        source: what the plan is to call the data.
        init: the weights that the recipe names.
        began: the monotonic time from which the recipe's minutes count.
        parallel: the processes that do it; None: this one alone.
    """
    parallel = parallel or ParallelContext()
    start = starting_model(recipe, init, images, device)
    weights = sum(p.numel() * p.element_size() for p in start.model.parameters())
    stages = 1 if recipe.tune.rung != "auto" else len(TRAINED) * (NUM_FOLDS if is_few(images) else 1) + 1
    need = (3 + 2 * stages) * 5 * weights + 2**24
    parallel.dist.run_on_main(lambda: check_writable(out, "the run with its checkpoints", need=need))
    for sentence in (*init.notes, *start.changed):
        watch.say(f"{recipe.model.init}: {sentence}")
    if recipe.run.precision == "auto":
        recipe = replace(recipe, run=replace(recipe.run, precision="float32"))
        if recipe.tune.rung != "probe":
            recipe = with_precision(recipe, start, images, watch, parallel)
    plan = Plan(
        source=source,
        fingerprint=images.fingerprint(),
        recipe=recipe,
        init=fingerprint(init),
        steps=None,
        time=None,
        threads=torch.get_num_threads(),
    )
    parallel.dist.run_on_main(lambda: write_plan(out, plan, images))
    return tune(out, recipe, replace(start, task=replace(start.task, recipe=recipe)), images, watch, began, parallel)


def go_on_tuning(
    out: Path,
    plan: Plan,
    images: LabeledImages,
    device: torch.device,
    watch: Reporter,
    began: float,
    parallel: ParallelContext | None = None,
) -> Trained:
    """Go on with the tuning in `out`; on a CPU, to the bit as if never stopped where it goes by epochs.

    Raises:
        DataError: when the weights that it began with are not what they were.
    """
    init = load_pretrained(plan.recipe.model.init or "", whole_images=True, head=False)
    if fingerprint(init) != plan.init:
        raise DataError(
            f"the weights of {init.name} are not what they were when the run began: put them back, or start a new run"
        )
    start = starting_model(plan.recipe, init, images, device)
    return tune(out, plan.recipe, start, images, watch, began, parallel or ParallelContext())


def starting_model(recipe: Recipe, init: PretrainedModel, images: LabeledImages, device: torch.device) -> Start:
    config = tuned_config(recipe, init, num_outputs(images.target, len(images.classes)))
    check_layout(config, recipe)
    if recipe.parallel.fsdp == recipe.parallel.tp == 1:
        check_memory(config, part_of_batch(recipe), device)
    seed_all(recipe.run.seed)
    model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = recipe.run.gradient_checkpointing
    changed = initialize_from(model, init)
    if images.target == "multilabel":
        start_at_shares(model.mlp_head, target_tensor(images.in_split("train"), images.target, len(images.classes)))
    size = tuned_preprocessing(config, init, keep_aspect=recipe.data.keep_aspect)
    return Start(model.to(device), task_of(recipe, size, images, device), changed)


def with_precision(
    recipe: Recipe, start: Start, images: LabeledImages, watch: Reporter, parallel: ParallelContext
) -> Recipe:
    """The recipe in the precision that measures faster on this machine, all of the model being trained."""
    watch.say("measuring the speed of a step")
    task = replace(start.task, recipe=replace(recipe, run=replace(recipe.run, precision="auto")))
    size, margin = canvas(images, task)
    few = images.in_split("train")[: task.batch_size]
    feed = TrainLoader(images, few, size, recipe.run.workers, watch, margin)
    batch = next(batches_of(feed, replace(task, images=len(few)), 0, 1, parallel))
    model = copy.deepcopy(start.model)  # which several processes divide
    precision, _ = measure(TrainState.fresh(model, recipe.optimizer, parallel), task, batch)
    return replace(recipe, run=replace(recipe.run, precision=precision))


def tune(
    out: Path,
    recipe: Recipe,
    start: Start,
    images: LabeledImages,
    watch: Reporter,
    began: float,
    parallel: ParallelContext,
) -> Trained:
    """Climb, keep the best rung, and write its bundle and report."""
    with resumable(out):
        tuner = Tuner(out, start, images, watch, began, parallel)
        wanted = tuple(rung for rung in TRAINED if recipe.tune.rung in ("auto", rung))
        found, kept, reason = climb(
            tuner.frozen,
            tuner.divisions,
            wanted,
            tuner.train_rung,
            lambda rung: watch.say(describe(rung, start.task.metric)),
            to_the_end=recipe.tune.rung != "auto",
        )
        watch.say(f"{kept} is kept: {reason}")
        tuning = Tuning(
            init=recipe.model.init or "",
            changed=start.changed,
            metric=start.task.metric,
            images=tuner.held_back,
            rungs=found,
            kept=kept,
            reason=reason,
        )
        return parallel.dist.run_on_main(
            lambda: finish(out, tuner.state_of(kept), start.task, images, tuner.validation, watch, tuning),
            wait_long=True,
        )
