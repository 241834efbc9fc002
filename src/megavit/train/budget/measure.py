"""How long things take here, measured before the first step: what a run by the clock is planned by.

Several processes measure together, and go on by the same numbers: the slowest one's, or the leader's where it works
alone.
"""

import copy
import statistics
import time
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from megavit.config.recipe import Precision, Recipe
from megavit.data.dataset import LabeledImages
from megavit.data.targets import num_outputs, target_tensor
from megavit.distributed.context import ParallelContext
from megavit.engine.engine import Engine
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_logits
from megavit.runtime.device import has_bfloat16
from megavit.train.budget.model_selection import CANDIDATES, Candidate, Choice, choose
from megavit.train.clock import MAX_VALIDATIONS, TimeBudgetPlan
from megavit.train.data import TrainLoader
from megavit.train.history import EpochRecord
from megavit.train.loop.build import VALIDATION_BATCH, compared, final_pass, fresh, noise, turns_of
from megavit.train.loop.loop import Batch, Task, train_step
from megavit.train.progress import Reporter
from megavit.train.report import figures
from megavit.train.setup.memory import check_memory
from megavit.train.setup.parallel import part_of_batch
from megavit.train.setup.resolve import model_config, plain_preprocessing, resolve, short_side
from megavit.train.state import TrainState

REPETITIONS = 5
# Slow steps are told apart sooner: after the first repetition no new one begins past this time.
ENOUGH_SECONDS = 10.0
# Less than this share is within the noise, and float32 is the safer of two equals.
WORTH_IT = 1.1


def measure(state: TrainState, task: Task, batch: Batch, enough: float = ENOUGH_SECONDS) -> tuple[Precision, float]:
    """The faster precision for `task`, of those its recipe allows, and the median seconds of a step in it.

    Trains a copy; `state` and its random numbers are as before. Past `enough` seconds no new step begins, but
    two in each precision are done. Several processes measure together, each on its part of a batch, and the slowest
    counts; what is divided among them cannot be copied, and `state` itself is used up.
    """
    device, parallel = next(state.model.parameters()).device, state.parallel
    wanted = task.recipe.run.precision
    precisions: list[Precision] = [wanted]
    if wanted == "auto":
        (lacking,) = parallel.all_reduce_max(not has_bfloat16(device))
        precisions = ["float32"] if lacking else ["float32", "bfloat16"]
    trial = (
        state if parallel.dist.is_distributed else TrainState.fresh(copy.deepcopy(state.model), task.recipe.optimizer)
    )
    tasks = {
        precision: replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, precision=precision)))
        for precision in precisions
    }
    seconds: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    began = time.perf_counter()
    for repetition in range(REPETITIONS + 1):
        if repetition > 1 and parallel.all_reduce_max(time.perf_counter() - began)[0] > enough:
            break
        for precision, variant in tasks.items():
            start = time.perf_counter()
            train_step(trial, variant, *batch, rate=0.0, steps=1)
            if repetition:  # the first one is slower: kernels are chosen and memory is taken
                seconds[precision].append(time.perf_counter() - start)
    slowest = parallel.all_reduce_max(*(statistics.median(seconds[precision]) for precision in precisions))
    medians = dict(zip(precisions, slowest, strict=True))
    fastest = min(precisions, key=lambda precision: medians[precision] * (WORTH_IT if precision == "bfloat16" else 1))
    return fastest, medians[fastest]


# Bundle, report and the end of the process, of which Python's own clearing away of torch is a second, take as long
# as drawing so many of the report's learning curves.
FINISH_DRAWINGS = 17
# The agent that has started several processes ends after them.
AGENT_DRAWINGS = 8
# The report's examples, two dozen, are explained by eight passes there and back each, as steps of so many images.
EXPLAINED = 24 * 8
# A pass over the validation images is measured for this share of the time, or a second where that is more.
VALIDATION_MEASURING_SHARE = 0.01


def choose_by_time(
    recipe: Recipe,
    images: LabeledImages,
    device: torch.device,
    began: float,
    watch: Reporter,
    parallel: ParallelContext | None = None,
) -> Choice:
    """The recipe for its minutes, with model and precision chosen by measuring on noise, and a line that says so.

    Args:
        began: the monotonic time from which the minutes count.
        parallel: the processes that train; None: this one alone.

    Raises:
        ConfigError: when not even the smallest model can be trained as the recipe says.
    """
    parallel, total = parallel or ParallelContext(), recipe.run.minutes * 60
    watch.say("measuring the speed of a step")
    until = parallel.dist.run_on_main(lambda: began + total - ending_seconds(parallel))
    choice = choose_until(recipe, images, device, until, total, parallel)
    watch.say(choice.reason)
    return choice


def choose_until(
    recipe: Recipe,
    images: LabeledImages,
    device: torch.device,
    until: float,
    total: float,
    parallel: ParallelContext | None = None,
) -> Choice:
    """As `choose_by_time`, to train until the (leader's) monotonic time `until`, of `total` seconds in all."""
    parallel = parallel or ParallelContext()
    return choose(
        parallel.dist.run_on_main(lambda: candidates(recipe, images, device)),
        lambda candidate, enough: step_time(candidate, images, device, enough, parallel),
        len(images.in_split("train")),
        until,
        total,
        lambda: parallel.dist.run_on_main(time.monotonic),
    )


def settle_precision(
    recipe: Recipe,
    images: LabeledImages,
    device: torch.device,
    watch: Reporter,
    parallel: ParallelContext | None = None,
) -> Recipe:
    """A resolved recipe in the precision that measures faster, where it leaves that open."""
    if recipe.run.precision != "auto":
        return recipe
    watch.say("measuring the speed of a step")
    precision, _ = step_time(recipe, images, device, ENOUGH_SECONDS, parallel or ParallelContext())
    return replace(recipe, run=replace(recipe.run, precision=precision))


def step_time(
    recipe: Recipe,
    images: LabeledImages,
    device: torch.device,
    enough: float,
    parallel: ParallelContext,
) -> tuple[Precision, float]:
    """As `megavit.train.budget.measure.measure`, of a resolved recipe, on noise."""
    # No image is read to find the mean and spread of channels: noise needs none, and measuring is short.
    config = model_config(recipe, num_outputs(images.target, len(images.classes)))
    size = plain_preprocessing(config, keep_aspect=recipe.data.keep_aspect)
    state, task = fresh(recipe, images, device, size, parallel)
    mine = part_of_batch(recipe).batch_size or 1
    targets = target_tensor(images.in_split("train")[:mine], images.target, len(images.classes))
    return measure(state, task, (noise(images, replace(task, batch_size=mine)), targets), enough)


def candidates(recipe: Recipe, images: LabeledImages, device: torch.device) -> list[Candidate]:
    """The models that the recipe leaves to choose from, the smallest first: one where it names it."""
    if recipe.model.preset != "auto":
        resolved = resolve(recipe, images, device)
        return [Candidate(resolved, work(resolved, images))]
    side = short_side(images.in_split("train"))
    found: list[Candidate] = []
    refusal: ConfigError | None = None
    for preset, patch_size in next(sizes for largest, sizes in CANDIDATES if side <= largest):
        model = replace(recipe.model, preset=preset, patch_size=recipe.model.patch_size or patch_size)
        resolved = resolve(replace(recipe, model=model), images, device)
        try:
            config = model_config(resolved, num_outputs(images.target, len(images.classes)))
            check_memory(config, part_of_batch(resolved), device)
        except ConfigError as error:
            refusal = refusal or error  # it has company that may fit; if none does, the smallest one's tells most
        else:
            found.append(Candidate(resolved, work(resolved, images)))
    if not found and refusal is not None:
        raise refusal
    return found


def work(recipe: Recipe, images: LabeledImages) -> float:
    """Multiplications of a step, roughly: of each token with each weight."""
    config = model_config(recipe, num_outputs(images.target, len(images.classes)))
    weights = config.depth * config.dim * (4 * config.heads * config.dim_head + 2 * config.mlp_dim)
    return float(weights * (config.num_patches + config.num_prefix_tokens) * (recipe.run.batch_size or 1))


def time_plan(
    state: TrainState, task: Task, images: LabeledImages, validation: TrainLoader, reading: float, step: float
) -> TimeBudgetPlan:
    """What the run will take after its last step, measured; the leader's answer, given to all.

    Args:
        validation: the validation images.
        reading: seconds that it took to read them.
        step: seconds of a step.
    """
    total = task.recipe.run.minutes * 60
    enough = max(1.0, VALIDATION_MEASURING_SHARE * total)
    pass_seconds = validation_seconds(state, task, validation, enough)

    def plan() -> TimeBudgetPlan:
        final_seconds = final_pass_seconds(state, task, validation, enough)
        others = (len(images.in_split("test")) + len(compared(images.in_split("train")))) / len(validation)
        alone = (
            step * state.parallel.dp_world_size / task.batch_size
        )  # of one image, which the leader explains by itself
        return TimeBudgetPlan(
            total=total,
            step=step,
            validation=pass_seconds,
            # The last validation, then all that the finished model is judged by.
            final_passes=1 + (1 + others) * final_seconds / pass_seconds,
            # The validation images are read already.
            finish=ending_seconds(state.parallel) + others * reading + EXPLAINED * alone,
        )

    return state.parallel.dist.run_on_main(plan)


def validation_seconds(state: TrainState, task: Task, feed: TrainLoader, enough: float) -> float:
    """Seconds of a validation on the images of `feed`, by as many as come in `enough` seconds."""
    _, taken = turns_of(feed, state.parallel)
    batches = (batch for batch, _ in feed.batches(taken))
    answers = compute_logits(state.average, batches, task.preprocessing, task.dtype)
    return seconds_of_pass(answers, sum(map(len, taken)), enough, state.parallel)


def final_pass_seconds(state: TrainState, task: Task, feed: TrainLoader, enough: float) -> float:
    """Seconds of a pass of the finished model over the images of `feed`, by one process alone."""
    model = state.average
    if state.parallel.dist.is_distributed:  # a model like it: its own is divided
        model = MegaVit.from_config(model.config).to(next(model.parameters()).device)
    final = Engine(model, task.preprocessing)
    final.choose_runtime(next(feed.in_turn(VALIDATION_BATCH)))  # or its beginning, which is slower, would be multiplied
    return seconds_of_pass((seen.logits for seen in final_pass(final, feed)), len(feed), enough, ParallelContext())


def seconds_of_pass(answers: Iterable[Tensor], images: int, enough: float, parallel: ParallelContext) -> float:
    """Seconds that all of `answers` would take, for so many images, by as many as come in `enough` seconds."""
    began, seen = time.monotonic(), 0
    for part in answers:
        seen += len(part)
        if parallel.all_reduce_max(time.monotonic() - began)[0] > enough:
            break
    return parallel.all_reduce_max((time.monotonic() - began) * images / seen)[0]


def ending_seconds(parallel: ParallelContext) -> float:
    """Seconds from the last figure known to the end of the command."""
    return (FINISH_DRAWINGS + (AGENT_DRAWINGS if parallel.dist.is_distributed else 0)) * drawing_seconds()


def drawing_seconds() -> float:
    """Seconds of drawing the learning curves of the report once."""
    record = EpochRecord(epoch=1, step=1, seconds=1, train_loss=1, val_loss=1, val_metric=0.5, learning_rate=1e-3)
    began = time.monotonic()
    figures.png(figures.curves([record] * MAX_VALIDATIONS, figures.LIGHT))
    return time.monotonic() - began
