"""Build the model, preprocessing, task and data loaders that a resolved recipe describes."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import PRESETS, preset
from megavit.config.recipe import AugmentRecipe, Recipe
from megavit.config.vit import Design, ViTConfig
from megavit.data.augment import canvas_margin, canvas_size
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import COLOR_CHANNELS, ImageDataset, Images, compute_channel_statistics, make_batch
from megavit.data.targets import num_outputs, target_tensor
from megavit.model.activation_memory import activation_memory
from megavit.model.vit import MegaVit
from megavit.runtime.seeds import seed_all
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader
from megavit.training.optim.loss import init_head_bias
from megavit.training.state import TrainState
from megavit.training.task import Task, make_task
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.origin import Origin
from megavit.weights.pretrained.pretrained import PretrainedModel

# Number of training images that the channels' mean and standard deviation are computed from.
NUM_STATISTICS_IMAGES = 512


@dataclass(frozen=True)
class StartingModel:
    """A pretrained model before fine-tuning, its task, sentences on how the weights were adapted, and their origin.

    `is_pretraining` is that of the `PretrainedModel`.
    """

    model: MegaVit
    task: Task
    changes: list[str]
    origin: Origin
    is_pretraining: bool = False


def build_training(
    ctx: RunContext, recipe: Recipe, preprocessing: Preprocessing | None = None, *, teacher_dim: int = 0
) -> tuple[TrainState, Task]:
    """Return the initial training state and task; without `preprocessing`, `compute_preprocessing` determines it.

    With a teacher, the model has outputs for its `teacher_dim` features after those for the labels.
    """
    dataset, parallel = ctx.dataset, ctx.parallel
    config = make_model_config(recipe, dataset)
    config = replace(config, num_classes=config.num_classes + teacher_dim)
    with torch.device("meta"):
        model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = recipe.run.gradient_checkpointing
    if preprocessing is None:
        preprocessing = compute_preprocessing(config, dataset, keep_aspect=recipe.data.keep_aspect)
    task = replace(
        make_task(recipe, preprocessing, dataset, ctx.device), step_memory=_step_memory(config, recipe, ctx.device)
    )

    seed_all(recipe.run.seed)
    parallel.param_dtype = task.dtype
    if parallel.is_sharded:
        state = TrainState.create(model, recipe.optimizer, parallel)
        parallel.init_weights(state.model)
        _init_head(state.model, ctx)
        state.init_ema()
    else:
        model.to_empty(device=ctx.device).initialize()
        _init_head(model, ctx)
        state = TrainState.create(model, recipe.optimizer, parallel)
    if recipe.run.compile:
        for layer in state.model.transformer.layers:
            layer.compile()
    return state, task


def build_pretrained(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel) -> StartingModel:
    """Return a pretrained model, adapted to a resolved recipe and with a new head, and its task."""
    config = make_model_config(recipe, ctx.dataset, pretrained)
    seed_all(recipe.run.seed)
    model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = recipe.run.gradient_checkpointing
    changes = [*initialize_from(model, pretrained), *_seen_note(pretrained, ctx.dataset)]
    _init_head(model, ctx)
    preprocessing = adapt_preprocessing(config, pretrained, keep_aspect=recipe.data.keep_aspect)
    task = make_task(recipe, preprocessing, ctx.dataset, ctx.device)
    task = replace(task, step_memory=_step_memory(config, recipe, ctx.device))
    return StartingModel(model.to(ctx.device), task, changes, pretrained.origin, pretrained.is_pretraining)


def _seen_note(pretrained: PretrainedModel, dataset: LabeledImages) -> list[str]:
    """Return a note if the pretrained weights have learned from some of the test images."""
    test = dataset.in_split("test")
    count = sum(sample.digest in pretrained.seen for sample in test)
    if not count:
        return []
    return [
        f"{count:,} of the {len(test):,} test images were already trained on, so that the results are too good: use "
        "the data and splits of its run, or other test images"
    ]


def _step_memory(config: ViTConfig, recipe: Recipe, device: torch.device) -> int:
    if device.type != "cpu":
        return 0
    images = (recipe.run.batch_size or 1) // recipe.parallel.dp_world_size // (recipe.run.gradient_accumulation or 1)
    return max(1, images) * activation_memory(config, recipe.run.gradient_checkpointing)


def _init_head(model: MegaVit, ctx: RunContext) -> None:
    dataset = ctx.dataset
    if dataset.target == "multilabel":
        labels = target_tensor(dataset.in_split("train"), dataset.target, len(dataset.classes))
        init_head_bias(model.mlp_head, labels.to(next(model.parameters()).device))


def make_model_config(recipe: Recipe, dataset: LabeledImages, pretrained: PretrainedModel | None = None) -> ViTConfig:
    """Return the model config, in the MegaVit or the pretrained design, or raise ConfigError for inconsistent sizes."""
    model, num_classes = recipe.model, num_outputs(dataset.target, len(dataset.classes))
    if pretrained is not None:
        base = pretrained.config
        return replace(
            base,
            num_classes=num_classes,
            image_size=model.image_size or base.image_size,
            channels=model.channels or base.channels,
            dropout=model.dropout,
            design=replace(base.design, drop_path=model.drop_path, patch_drop=0.0),
        )
    usual = PRESETS[model.preset].design
    config = preset(
        model.preset,
        num_classes=num_classes,
        image_size=model.image_size,
        patch_size=model.patch_size,
        channels=model.channels or 3,
        design=Design(
            mlp=model.mlp, stem=model.stem or usual.stem, norm=model.norm or usual.norm, drop_path=model.drop_path
        ),
    )
    return replace(config, dropout=model.dropout)


def compute_preprocessing(config: ViTConfig, dataset: LabeledImages, *, keep_aspect: bool = False) -> Preprocessing:
    """Return the model's preprocessing; mean and standard deviation are measured unless the images are gray or RGB."""
    plain = make_preprocessing(config, keep_aspect=keep_aspect)
    if config.channels in COLOR_CHANNELS:
        return plain
    training = dataset.in_split("train")
    samples = training[:: -(-len(training) // NUM_STATISTICS_IMAGES)]
    mean, std = compute_channel_statistics(ImageDataset(dataset, samples, plain))
    return replace(plain, mean=mean, std=std)


def make_preprocessing(config: ViTConfig, *, keep_aspect: bool = False) -> Preprocessing:
    """Return the preprocessing at the model's image size, with the default mean and standard deviation."""
    height, width = config.image_hw
    return Preprocessing(
        height=height, width=width, channels=config.channels, keep_aspect=keep_aspect, patch_size=config.patch_size
    )


def adapt_preprocessing(config: ViTConfig, pretrained: PretrainedModel, *, keep_aspect: bool = False) -> Preprocessing:
    """Return the preprocessing of the pretrained weights at the new size, or the default where it is unknown.

    Images are never cropped. If the number of channels differs, mean and standard deviation are averaged over channels.
    """
    plain, base = make_preprocessing(config, keep_aspect=keep_aspect), pretrained.preprocessing
    if base is None:
        return plain
    plain = replace(plain, interpolation=base.interpolation)
    if base.channels == plain.channels:
        return replace(plain, mean=base.mean, std=base.std)
    mean, std = (statistics.mean(value) if isinstance(value, tuple) else value for value in (base.mean, base.std))
    return replace(plain, mean=mean, std=std)


def median_short_side(samples: Sequence[Sample]) -> int:
    """Return the median length of the images' shorter sides, in pixels."""
    return round(statistics.median(min(sample.height, sample.width) for sample in samples))


def make_train_loader(ctx: RunContext, task: Task, samples: Sequence[Sample] | None = None) -> TrainLoader:
    """Return a loader of `samples`, by default the training images, with the margin that augmentation needs."""
    size, margin = _canvas(ctx.dataset, task)
    if samples is None:
        samples = ctx.dataset.in_split("train")
    return TrainLoader(
        ctx.dataset,
        samples,
        size,
        workers=task.recipe.run.workers,
        reporter=ctx.reporter,
        reserved=task.step_memory,
        margin=margin,
    )


def make_eval_loader(
    ctx: RunContext, task: Task, samples: Sequence[Sample], dataset: LabeledImages | None = None
) -> TrainLoader:
    """Return a loader of `samples`, of the run's images unless of others, with the evaluation preprocessing."""
    return TrainLoader(
        dataset or ctx.dataset,
        samples,
        task.preprocessing,
        workers=task.recipe.run.workers,
        reporter=ctx.reporter,
        reserved=task.step_memory,
    )


def _canvas(dataset: LabeledImages, task: Task) -> tuple[Preprocessing, float]:
    """Return the size at which training images are stored, and the margin for images that keep their aspect ratio."""
    size, augment = task.preprocessing, task.recipe.augment
    return (size, canvas_margin(augment)) if size.keep_aspect else (make_canvas(dataset, size, augment), 1.0)


def make_canvas(dataset: LabeledImages, preprocessing: Preprocessing, augment: AugmentRecipe) -> Preprocessing:
    """Return the preprocessing at the size from which training images are cropped."""
    height, width = canvas_size(preprocessing, augment, median_short_side(dataset.in_split("train")))
    return replace(preprocessing, height=height, width=width)


def make_noise_images(dataset: LabeledImages, task: Task) -> Images:
    """Return a batch of random noise with the shapes of training images, without reading any image."""
    training = dataset.in_split("train")
    samples = [training[index * len(training) // task.batch_size] for index in range(task.batch_size)]
    size, margin = _canvas(dataset, task)
    images = ImageDataset(dataset, samples, size, margin)
    shapes = [(size.channels, *images.output_size(sample)) for sample in images.samples]
    return make_batch([torch.randint(0, 256, shape, dtype=torch.uint8) for shape in shapes], size)
