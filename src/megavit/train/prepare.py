"""What a run needs before its first step: model and optimiser, images, and how long things take here."""

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import Precision, Recipe
from megavit.data.augment import canvas_margin, canvas_size
from megavit.data.batches import in_turn
from megavit.data.order import BatchOrder, equal_class_weights
from megavit.data.pictures import Images, Pictures, as_batch
from megavit.data.samples import LabelledImages, Sample
from megavit.data.targets import outputs, targets_of
from megavit.data.windows import windows_of
from megavit.engine.engine import Engine, Seen
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.parallel.team import Alone, Team
from megavit.predict.logits import logits_of
from megavit.runtime.seeds import seed_all
from megavit.train import figures
from megavit.train.choose import CANDIDATES, Candidate, Choice, choose
from megavit.train.feed import Feed
from megavit.train.history import EpochRecord
from megavit.train.layout import check_layout, part_of_batch
from megavit.train.loop import Batch, Task, Validate
from megavit.train.loss import make_loss, soft_targets, start_at_shares
from megavit.train.memory import check_memory
from megavit.train.pace import MOST_VALIDATIONS, TimePlan
from megavit.train.resolve import model_config, plain_preprocessing, preprocessing_of, resolve, short_side
from megavit.train.speed import measure
from megavit.train.state import TrainState
from megavit.train.targets import target_of
from megavit.train.validation import measure_epoch
from megavit.train.watch import Watch

VALIDATION_BATCH = 256
# Bundle, report and the end of the process, of which Python's own clearing away of torch is a second, take as long
# as drawing so many of the report's learning curves.
FINISH_DRAWINGS = 17
# Training images that new ones are compared with.
COMPARED = 2_000
# The report's examples, two dozen, are explained by eight passes there and back each, as steps of so many images.
EXPLAINED = 24 * 8
# A pass over the validation images is measured for this share of the time, or a second where that is more.
VALIDATION_MEASURING_SHARE = 0.01


def fresh(
    recipe: Recipe,
    images: LabelledImages,
    device: torch.device,
    preprocessing: Preprocessing | None = None,
    team: Alone | Team | None = None,
) -> tuple[TrainState, Task]:
    """The state before the first step of a resolved recipe, and its task.

    Args:
        preprocessing: of the images; None: as `preprocessing_of` finds it, which may read some of them.
        team: the processes that train; None: this one alone.

    Raises:
        ConfigError: when sizes do not fit together, or the device has too little memory.
    """
    config = model_config(recipe, outputs(images.target, len(images.classes)))
    check_layout(config, recipe)
    if not recipe.parallel.divides:  # of parts of a model, `megavit plan` knows
        check_memory(config, part_of_batch(recipe), device)
    with torch.device("meta"):
        model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = recipe.run.gradient_checkpointing
    size = preprocessing or preprocessing_of(config, images, keep_aspect=recipe.data.keep_aspect)
    task = task_of(recipe, size, images, device)

    def start(model: MegaVit) -> None:
        if images.target == "labels":
            present = targets_of(images.of("train"), images.target, len(images.classes))
            start_at_shares(model.mlp_head, present.to(device))

    seed_all(recipe.run.seed)
    if isinstance(team, Team) and team.divides:
        state = TrainState.fresh(model, recipe.optimiser, team)
        team.initialise(state.model)
        start(state.model)
        state.begin_average()
    else:
        model.to_empty(device=device).initialise()
        start(model)
        state = TrainState.fresh(model, recipe.optimiser, team)
    if recipe.run.compile:
        for layer in state.model.transformer.layers:
            layer.compile()
    return state, task


def task_of(recipe: Recipe, preprocessing: Preprocessing, images: LabelledImages, device: torch.device) -> Task:
    """The task of a resolved recipe on the training images."""
    target, training = target_of(images), images.of("train")
    targets = targets_of(training, images.target, len(images.classes)).to(device)
    num_classes = outputs(target.kind, len(images.classes))
    smoothing = recipe.optimiser.label_smoothing
    return Task(
        recipe=recipe,
        preprocessing=preprocessing,
        target=target,
        num_classes=num_classes,
        loss=make_loss(target, targets, num_classes, recipe.data.balance, smoothing),
        batch_size=recipe.run.batch_size or len(training),
        images=len(training),
    )


def canvas(images: LabelledImages, task: Task) -> tuple[Preprocessing, float]:
    """At what size the training images are kept, and by what margin larger where they keep their aspect."""
    size, augment = task.preprocessing, task.recipe.augment
    if size.keep_aspect:
        return size, canvas_margin(augment)
    height, width = canvas_size(size, augment, short_side(images.of("train")))
    return replace(size, height=height, width=width), 1.0


def training_feed(task: Task, images: LabelledImages, watch: Watch) -> Feed:
    size, margin = canvas(images, task)
    return Feed(images, images.of("train"), size, task.recipe.run.workers, watch, margin)


def validation_feed(task: Task, images: LabelledImages, watch: Watch) -> Feed:
    return Feed(images, images.of("val"), task.preprocessing, task.recipe.run.workers, watch)


def noise(images: LabelledImages, task: Task) -> Images:
    """A batch like those of the training feed, but of noise: no image is read."""
    training = images.of("train")
    # Spread over all of them, as they lie in order of their names.
    chosen = [training[place * len(training) // task.batch_size] for place in range(task.batch_size)]
    size, margin = canvas(images, task)
    pictures = Pictures(images, chosen, size, margin)
    return as_batch(
        [
            torch.randint(0, 256, (size.channels, *pictures.size_of(sample)), dtype=torch.uint8)
            for sample in pictures.samples
        ],
        size,
    )


def batches_of(feed: Feed, task: Task, start: int, steps: int, team: Alone | Team | None = None) -> Generator[Batch]:
    """Batches from step `start` up to `steps`; of several processes that train, this one's part of each."""
    team = team or Alone()
    weights = equal_class_weights(feed.labels.tolist()) if task.recipe.data.balance == "sampler" else None
    order = BatchOrder(
        len(feed),
        task.batch_size,
        task.recipe.run.seed,
        start=start,
        steps=steps,
        weights=weights,
        place=team.place,
        places=team.places,
        windows=windows_of(feed.pictures.samples),
        ahead=feed.memory is None,
    )
    yield from feed.batches(order)


def validator(feed: Feed, task: Task, team: Alone | Team | None = None) -> Validate:
    """Maps a model to its (loss, `task.metric`) on the images of `feed`; no remedy for imbalance is in that loss.

    Several processes compute it together, each the answers for its part of the images.
    """
    team = team or Alone()
    plain = make_loss(task.target, feed.labels, task.num_classes, "none", label_smoothing=0.0)
    soft = soft_targets(feed.labels, task.num_classes)

    def validate(model: nn.Module) -> tuple[float, float]:
        places = in_turn(len(feed), VALIDATION_BATCH)
        mine = [batch[team.place :: team.places] for batch in places]
        # A forward pass takes all processes: one without an image of its own takes another's, and forgets it.
        taken = [own or batch[:1] for own, batch in zip(mine, places, strict=True)]
        batches = (batch for batch, _ in feed.batches(taken))
        found = list(logits_of(model, batches, task.preprocessing, task.dtype))
        rows = torch.cat([part[: len(own)] for part, own in zip(found, mine, strict=True)])
        logits = team.assembled(rows, [place for own in mine for place in own], len(feed))
        return plain(logits, soft).item(), measure_epoch(task.metric, logits, feed.labels, task.target)

    return validate


def choose_by_time(recipe: Recipe, images: LabelledImages, device: torch.device, began: float, watch: Watch) -> Choice:
    """The recipe for its minutes, with model and precision chosen by measuring on noise, and a line that says so.

    Args:
        began: the monotonic time from which the minutes count.

    Raises:
        ConfigError: when not even the smallest model can be trained as the recipe says.
    """
    total = recipe.run.minutes * 60
    watch.say("measuring the speed of a step")
    until = began + total - FINISH_DRAWINGS * drawing_seconds()
    choice = choose_until(recipe, images, device, until, total)
    watch.say(choice.reason)
    return choice


def choose_until(recipe: Recipe, images: LabelledImages, device: torch.device, until: float, total: float) -> Choice:
    """As `choose_by_time`, to train until the monotonic time `until`, of `total` seconds in all."""
    targets = targets_of(images.of("train"), images.target, len(images.classes))

    def step_time(candidate: Recipe, enough: float) -> tuple[Precision, float]:
        # No image is read to find the mean and spread of channels: noise needs none, and measuring is short.
        config = model_config(candidate, outputs(images.target, len(images.classes)))
        size = plain_preprocessing(config, keep_aspect=candidate.data.keep_aspect)
        state, task = fresh(candidate, images, device, size)
        return measure(state, task, (noise(images, task), targets[: task.batch_size]), enough)

    return choose(candidates(recipe, images, device), step_time, len(images.of("train")), until, total)


def candidates(recipe: Recipe, images: LabelledImages, device: torch.device) -> list[Candidate]:
    """The models that the recipe leaves to choose from, the smallest first: one where it names it."""
    if recipe.model.preset != "auto":
        resolved = resolve(recipe, images, device)
        return [Candidate(resolved, work(resolved, images))]
    side = short_side(images.of("train"))
    found: list[Candidate] = []
    refusal: ConfigError | None = None
    for preset, patch_size in next(sizes for largest, sizes in CANDIDATES if side <= largest):
        model = replace(recipe.model, preset=preset, patch_size=recipe.model.patch_size or patch_size)
        resolved = resolve(replace(recipe, model=model), images, device)
        try:
            config = model_config(resolved, outputs(images.target, len(images.classes)))
            check_memory(config, resolved.run, device)
        except ConfigError as error:
            refusal = refusal or error  # it has company that may fit; if none does, the smallest one's tells most
        else:
            found.append(Candidate(resolved, work(resolved, images)))
    if not found and refusal is not None:
        raise refusal
    return found


def work(recipe: Recipe, images: LabelledImages) -> float:
    """Multiplications of a step, roughly: of each token with each weight."""
    config = model_config(recipe, outputs(images.target, len(images.classes)))
    weights = config.depth * config.dim * (4 * config.heads * config.dim_head + 2 * config.mlp_dim)
    return float(weights * (config.num_patches + config.num_prefix_tokens) * (recipe.run.batch_size or 1))


def time_plan(
    state: TrainState, task: Task, images: LabelledImages, validation: Feed, reading: float, step: float
) -> TimePlan:
    """What the run will take after its last step, measured.

    Args:
        validation: the validation images.
        reading: seconds that it took to read them.
        step: seconds of a step.
    """
    total = task.recipe.run.minutes * 60
    enough = max(1.0, VALIDATION_MEASURING_SHARE * total)
    pass_seconds = validation_seconds(state, task, validation, enough)
    final = Engine(state.average, task.preprocessing)
    final.settle(next(validation.in_turn(VALIDATION_BATCH)))  # or its beginning, which is slower, would be multiplied
    final_answers = (seen.logits for seen in final_pass(final, validation))
    final_seconds = seconds_of_pass(final_answers, len(validation), enough)
    others = (len(images.of("test")) + len(compared(images.of("train")))) / len(validation)
    return TimePlan(
        total=total,
        step=step,
        validation=pass_seconds,
        # The last validation, then all that the finished model is judged by.
        final_passes=1 + (1 + others) * final_seconds / pass_seconds,
        # The validation images are read already.
        finish=FINISH_DRAWINGS * drawing_seconds() + others * reading + EXPLAINED * step / task.batch_size,
    )


def validation_seconds(state: TrainState, task: Task, feed: Feed, enough: float) -> float:
    """Seconds of a validation on the images of `feed`, by as many as come in `enough` seconds."""
    batches = feed.in_turn(VALIDATION_BATCH)
    return seconds_of_pass(logits_of(state.average, batches, task.preprocessing, task.dtype), len(feed), enough)


def final_pass(engine: Engine, feed: Feed) -> Iterator[Seen]:
    """What the model sees in each batch of `feed`, in float32, as the bundle will."""
    return map(engine, feed.in_turn(VALIDATION_BATCH))


def compared(training: Sequence[Sample]) -> Sequence[Sample]:
    """Up to `COMPARED` of the training images, spread over their names, which go by class in most folders."""
    return training[:: -(-len(training) // COMPARED)]


def seconds_of_pass(answers: Iterable[Tensor], images: int, enough: float) -> float:
    """Seconds that all of `answers` would take, for so many images, by as many as come in `enough` seconds."""
    began, seen = time.monotonic(), 0
    for part in answers:
        seen += len(part)
        if time.monotonic() - began > enough:
            break
    return (time.monotonic() - began) * images / seen


def drawing_seconds() -> float:
    """Seconds of drawing the learning curves of the report once."""
    record = EpochRecord(epoch=1, step=1, seconds=1, train_loss=1, val_loss=1, val_metric=0.5, learning_rate=1e-3)
    began = time.monotonic()
    figures.png(figures.curves([record] * MOST_VALIDATIONS, figures.LIGHT))
    return time.monotonic() - began


def steps_of(task: Task, epochs: int) -> int:
    """The steps of so many passes."""
    return math.ceil(epochs * task.images / task.batch_size)
