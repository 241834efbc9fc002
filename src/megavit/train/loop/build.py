"""What a run needs before its first step: model and optimizer, and its images."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import Recipe
from megavit.data.augment import canvas_margin, canvas_size
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import ImageDataset, Images, make_batch
from megavit.data.loader.loader import sequential_batches
from megavit.data.loader.sampler import ResumableBatchSampler, compute_class_balanced_weights
from megavit.data.loader.shard_windows import make_shard_windows
from megavit.data.targets import num_outputs, target_tensor
from megavit.distributed.context import ParallelContext
from megavit.engine.engine import Engine, ModelOutput
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_logits
from megavit.runtime.seeds import seed_all
from megavit.train.data import TrainLoader
from megavit.train.loop.loop import Batch, Task, Validate
from megavit.train.loop.validation import measure_epoch
from megavit.train.optim.loss import make_loss, soft_targets, start_at_shares
from megavit.train.progress import Reporter
from megavit.train.setup.memory import check_memory
from megavit.train.setup.parallel import check_layout, part_of_batch
from megavit.train.setup.resolve import model_config, preprocessing_of, short_side
from megavit.train.setup.targets import target_of
from megavit.train.state import TrainState

VALIDATION_BATCH = 256
# Training images that new ones are compared with: so many, and of each class so many. Of 5,000 classes, of which the
# former alone leaves most unseen, images of new ones are then told from the known as well as of 1,000.
COMPARED, MIN_COMPARED_PER_CLASS = 2_000, 10


def fresh(
    recipe: Recipe,
    images: LabeledImages,
    device: torch.device,
    preprocessing: Preprocessing | None = None,
    parallel: ParallelContext | None = None,
) -> tuple[TrainState, Task]:
    """The state before the first step of a resolved recipe, and its task.

    Args:
        preprocessing: of the images; None: as `preprocessing_of` finds it, which may read some of them.
        parallel: the processes that train; None: this one alone.

    Raises:
        ConfigError: when sizes do not fit together, or the device has too little memory.
    """
    config = model_config(recipe, num_outputs(images.target, len(images.classes)))
    check_layout(config, recipe)
    if not recipe.parallel.divides:  # of parts of a model, `megavit plan` knows
        check_memory(config, part_of_batch(recipe), device)
    with torch.device("meta"):
        model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = recipe.run.gradient_checkpointing
    size = preprocessing or preprocessing_of(config, images, keep_aspect=recipe.data.keep_aspect)
    task = task_of(recipe, size, images, device)

    def start(model: MegaVit) -> None:
        if images.target == "multilabel":
            present = target_tensor(images.in_split("train"), images.target, len(images.classes))
            start_at_shares(model.mlp_head, present.to(device))

    seed_all(recipe.run.seed)
    parallel = parallel or ParallelContext()
    parallel.param_dtype = task.dtype
    if parallel.is_sharded:
        state = TrainState.fresh(model, recipe.optimizer, parallel)
        parallel.init_weights(state.model)
        start(state.model)
        state.begin_average()
    else:
        model.to_empty(device=device).initialize()
        start(model)
        state = TrainState.fresh(model, recipe.optimizer, parallel)
    if recipe.run.compile:
        for layer in state.model.transformer.layers:
            layer.compile()
    return state, task


def task_of(recipe: Recipe, preprocessing: Preprocessing, images: LabeledImages, device: torch.device) -> Task:
    """The task of a resolved recipe on the training images."""
    target, training = target_of(images), images.in_split("train")
    targets = target_tensor(training, images.target, len(images.classes)).to(device)
    num_classes = num_outputs(target.kind, len(images.classes))
    smoothing = recipe.optimizer.label_smoothing
    return Task(
        recipe=recipe,
        preprocessing=preprocessing,
        target=target,
        num_classes=num_classes,
        loss=make_loss(target, targets, num_classes, recipe.data.balance, smoothing),
        batch_size=recipe.run.batch_size or len(training),
        images=len(training),
    )


def canvas(images: LabeledImages, task: Task) -> tuple[Preprocessing, float]:
    """At what size the training images are kept, and by what margin larger where they keep their aspect."""
    size, augment = task.preprocessing, task.recipe.augment
    if size.keep_aspect:
        return size, canvas_margin(augment)
    height, width = canvas_size(size, augment, short_side(images.in_split("train")))
    return replace(size, height=height, width=width), 1.0


def training_feed(task: Task, images: LabeledImages, watch: Reporter) -> TrainLoader:
    size, margin = canvas(images, task)
    return TrainLoader(images, images.in_split("train"), size, task.recipe.run.workers, watch, margin)


def validation_feed(task: Task, images: LabeledImages, watch: Reporter) -> TrainLoader:
    return TrainLoader(images, images.in_split("val"), task.preprocessing, task.recipe.run.workers, watch)


def noise(images: LabeledImages, task: Task) -> Images:
    """A batch like those of the training feed, but of noise: no image is read."""
    training = images.in_split("train")
    # Spread over all of them, as they lie in order of their names.
    chosen = [training[place * len(training) // task.batch_size] for place in range(task.batch_size)]
    size, margin = canvas(images, task)
    pictures = ImageDataset(images, chosen, size, margin)
    return make_batch(
        [
            torch.randint(0, 256, (size.channels, *pictures.output_size(sample)), dtype=torch.uint8)
            for sample in pictures.samples
        ],
        size,
    )


def batches_of(
    feed: TrainLoader, task: Task, start: int, steps: int, parallel: ParallelContext | None = None
) -> Generator[Batch]:
    """Batches from step `start` up to `steps`; of several processes that train, this one's part of each."""
    parallel = parallel or ParallelContext()
    weights = compute_class_balanced_weights(feed.labels.tolist()) if task.recipe.data.balance == "sampler" else None
    order = ResumableBatchSampler(
        len(feed),
        task.batch_size,
        task.recipe.run.seed,
        start=start,
        steps=steps,
        weights=weights,
        rank=parallel.dp_rank,
        world_size=parallel.dp_world_size,
        windows=make_shard_windows(feed.pictures.samples),
        ahead=feed.memory is None,
    )
    yield from feed.batches(order)


def turns_of(feed: TrainLoader, parallel: ParallelContext) -> tuple[list[list[int]], list[list[int]]]:
    """Of each batch of validation, the images that are this process's, and those that its model is given.

    A forward pass takes all processes: one without an image of its own takes another's, and forgets it.
    """
    batches = sequential_batches(len(feed), VALIDATION_BATCH)
    mine = [batch[parallel.dp_rank :: parallel.dp_world_size] for batch in batches]
    return mine, [own or batch[:1] for own, batch in zip(mine, batches, strict=True)]


def together(
    answers: Callable[[Iterator[Images]], Iterator[Tensor]],
    feed: TrainLoader,
    parallel: ParallelContext,
) -> Tensor:
    """A row of the answers for each image of `feed`, of which each process computes its part."""
    mine, taken = turns_of(feed, parallel)
    found = list(answers(batch for batch, _ in feed.batches(taken)))
    rows = torch.cat([part[: len(own)] for part, own in zip(found, mine, strict=True)])
    return parallel.all_gather_rows(rows, [place for own in mine for place in own], len(feed))


def validator(feed: TrainLoader, task: Task, parallel: ParallelContext | None = None) -> Validate:
    """Maps a model to its (loss, `task.metric`) on the images of `feed`; no remedy for imbalance is in that loss.

    Several processes compute it together, each the answers for its part of the images.
    """
    parallel = parallel or ParallelContext()
    plain = make_loss(task.target, feed.labels, task.num_classes, "none", label_smoothing=0.0)
    soft = soft_targets(feed.labels, task.num_classes)

    def validate(model: nn.Module) -> tuple[float, float]:
        logits = together(
            lambda batches: compute_logits(model, batches, task.preprocessing, task.dtype), feed, parallel
        )
        return plain(logits, soft).item(), measure_epoch(task.metric, logits, feed.labels, task.target)

    return validate


def final_pass(engine: Engine, feed: TrainLoader) -> Iterator[ModelOutput]:
    """What the model sees in each batch of `feed`, in float32, as the bundle will."""
    return map(engine, feed.in_turn(VALIDATION_BATCH))


def compared(training: Sequence[Sample]) -> Sequence[Sample]:
    """Return about `COMPARED` of the training images, spread over all, with `MIN_COMPARED_PER_CLASS` of each class.

    Images of labels or a score have no class; of these they are up to `COMPARED`.
    """
    step = -(-len(training) // COMPARED)
    by_class: dict[int, list[int]] = {}
    for place, sample in enumerate(training):
        if isinstance(sample.target, int):
            by_class.setdefault(sample.target, []).append(place)
    chosen = set(range(0, len(training), step))
    for places in by_class.values():
        missing = min(MIN_COMPARED_PER_CLASS, len(places)) - sum(place in chosen for place in places)
        others = [place for place in places if place not in chosen]
        chosen |= {others[number * len(others) // missing] for number in range(missing)}
    return [training[place] for place in sorted(chosen)]


def steps_of(task: Task, epochs: int) -> int:
    """The steps of so many passes."""
    return math.ceil(epochs * task.images / task.batch_size)
