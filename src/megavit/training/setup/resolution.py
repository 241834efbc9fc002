"""Choose the image size for pretrained weights by measuring how long it takes to embed all images."""

import time
from dataclasses import replace

import torch

from megavit.config.recipe import AUTO, Recipe
from megavit.data.dataset import LabeledImages
from megavit.engine.engine import Engine, Precision, fast_precision
from megavit.errors import ConfigError
from megavit.model.statistics import forward_flops
from megavit.training.context import RunContext
from megavit.training.data import short_batch_size
from megavit.training.loop.build import build_pretrained, make_model_config, median_short_side
from megavit.training.optim.lora import FINETUNE_METHODS
from megavit.weights.pretrained.pretrained import PretrainedModel

# Sides in pixels that are tried, rounded to whole patches; the smallest are only for many images in little time.
SIZES = (56, 84, 112, 168, 224, 336, 448)
# Side of a backbone's images where no time is measured: for `check`, the labeling page and as a teacher.
DEFAULT_SIDE = 112
# Largest side without a time budget, and largest ratio of any chosen side to the images' own short side.
SIZE_WITHOUT_BUDGET, MAX_ENLARGEMENT = 224, 2.0
# Share of the remaining time for embedding all images once, and the largest share with which a run is still begun.
EMBEDDING_SHARE, MAX_EMBEDDING_SHARE = 0.45, 0.7
# A smaller size is better if it leaves time to tune the weights: for this number of steps, and for evaluating the tuned
# model, in this share of the remaining time. Where no size does, the smallest is better if it leaves time for a few:
# with 76 photographs of clothing in two minutes of one core, 58.7% after 45 steps at 112 pixels, 46.7% without at 224.
# That is so from a side of `MIN_TUNING_SIZE`: with 10,000 images of CIFAR-10 in three minutes, 85.7% after 286 steps at
# 84 pixels, 84.0% by the probe at 112, where 105 steps were too few; with 3,658 emoji in one minute, 56 pixels with 239
# steps were not above 84 without.
# An image of a step takes about so many times as long as embedding it, by a method that trains the last layers, and by
# others.
MIN_TUNING_SIZE, TUNING_STEPS, FEWEST_STEPS, LAST_PASSES, TUNING_PASSES, TUNING_SHARE = 80, 100, 40, 2, 5, 0.85
# Largest number of images without labels for which a size is chosen; of more, those are used that there is time for.
MAX_COUNTED = 2_000
# A pass in float32 takes about so many times as long as one in the precision of the embeddings: 1.9 times, in ViT-S/14
# at 56 to 224 pixels on an AMD EPYC with AVX-512.
PASSES_IN_FLOAT32: dict[Precision, float] = {"float32": 1.0, "bfloat16": 2.0}
# A size is measured for this share of the time budget.
MEASURING_SHARE = 0.004


def own_image_size(pretrained: PretrainedModel) -> int | None:
    """Return the side of the square that the weights' own files prepare images to; None if it is no square."""
    height, width = pretrained.config.image_hw
    return pretrained.image_size or (height if height == width else None)


def default_image_size(pretrained: PretrainedModel) -> int | None:
    """Return the image size without a time budget: that of the weights, at most `SIZE_WITHOUT_BUDGET`."""
    own, patch = own_image_size(pretrained), pretrained.config.patch_hw
    if own is None or patch[0] != patch[1] or own <= SIZE_WITHOUT_BUDGET:
        return own
    return max(patch[0], SIZE_WITHOUT_BUDGET // patch[0] * patch[0])


def list_image_sizes(pretrained: PretrainedModel, dataset: LabeledImages) -> list[int]:
    """Return the image sizes to choose from, smallest first; none if the weights are for oblong images or patches.

    They are up to the weights' own size, and above `DEFAULT_SIDE` not far above the images' own sides.
    """
    own, patch = own_image_size(pretrained), pretrained.config.patch_hw
    if own is None or patch[0] != patch[1]:
        return []
    sizes = {max(1, round(size / patch[0])) * patch[0] for size in SIZES}
    sizes = sorted({size for size in sizes if size < own} | {own})
    largest = max(DEFAULT_SIDE, MAX_ENLARGEMENT * median_short_side(dataset.in_split("train")))
    return sizes[:1] + [size for size in sizes[1:] if size <= largest]


def choose_embedding_precision(recipe: Recipe, device: torch.device) -> Precision:
    """Return the precision in which a run embeds its images, that of its training steps; float32 for a probe.

    What is embedded in bfloat16 differs by half a percent, which a probe does not notice. For the evaluation of a model
    images are embedded anew.
    """
    match recipe.run.precision:
        case "auto":
            return "float32" if recipe.finetune.method == "probe" else fast_precision(device)
        case precision:
            return precision


def choose_size_by_time(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel) -> int | None:
    """Return the largest image size that leaves time to tune the weights, or else at least to embed all images.

    If none is so fast it is the smallest; None if there are no sizes to choose from.
    """
    counts = ctx.dataset.split_sizes()
    total = len(ctx.dataset.samples)
    if ctx.unlabeled is not None:
        total += min(len(ctx.unlabeled.samples), MAX_COUNTED)
    batch_size = min(recipe.run.batch_size or 1, counts["train"])
    passes = LAST_PASSES if recipe.finetune.method in (AUTO, FINETUNE_METHODS[0]) else TUNING_PASSES
    float32 = PASSES_IN_FLOAT32[choose_embedding_precision(recipe, ctx.device)]
    tuned, step = total + float32 * (counts["val"] + counts["test"]), float32 * passes * batch_size
    is_tuned = recipe.finetune.method != "probe"
    sizes = list_image_sizes(pretrained, ctx.dataset)
    if len(sizes) < 2:
        return sizes[0] if sizes else None
    flops = {size: forward_flops(make_model_config(_at(recipe, size), ctx.dataset, pretrained)) for size in sizes}
    measured: dict[int, float] = {}
    latest = size = sizes[0]
    left = 0.0
    while size not in measured:
        latest, measured[size] = size, measure_image(ctx, _at(recipe, size), pretrained)
        left = recipe.run.minutes * 60 - ctx.clock.elapsed
        limit = EMBEDDING_SHARE * left / total
        expected = {s: measured.get(s, measured[latest] * flops[s] / flops[latest]) for s in sizes}
        fast = [s for s in sizes if expected[s] <= limit]
        # Steps that a size leaves time for.
        steps = {
            s: (TUNING_SHARE * left / expected[s] - tuned) / step for s in fast if is_tuned and s >= MIN_TUNING_SIZE
        }
        tunable = [s for s in steps if steps[s] >= TUNING_STEPS] or [s for s in steps if steps[s] >= FEWEST_STEPS][:1]
        size = max(tunable or fast, default=sizes[0])
    ctx.reporter.say(
        f"images are resized to {size} pixels: embedding all {total:,} will take about "
        f"{measured[size] * total:.0f} of the {left:.0f} seconds left; --image-size sets it"
    )
    return size


def check_affordable(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel) -> None:
    """Raise ConfigError if a run by time cannot embed all its images, at the requested or else the smallest size."""
    reason = find_lack_of_time(ctx, recipe, pretrained)
    if reason is not None:
        raise ConfigError(f"{reason}: give it more time with --minutes, or train from scratch with --from scratch")


def find_lack_of_time(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel) -> str | None:
    """Return why a run by time cannot embed all its images, at the requested or else the smallest size; None if so."""
    sizes = [recipe.model.image_size] if recipe.model.image_size else list_image_sizes(pretrained, ctx.dataset)
    if recipe.run.epochs or not sizes:
        return None
    total = len(ctx.dataset.samples)
    seconds = total * measure_image(ctx, _at(recipe, sizes[0]), pretrained)
    left = recipe.run.minutes * 60 - ctx.clock.elapsed
    if seconds <= MAX_EMBEDDING_SHARE * left:
        return None
    return f"embedding all {total:,} images would take about {seconds:.0f} of the {max(0.0, left):.0f} seconds left"


def measure_image(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel) -> float:
    """Return the seconds in which the faster runtime embeds one image, measured on noise."""
    start = build_pretrained(ctx, recipe, pretrained)
    engine = Engine(start.model, start.task.preprocessing, choose_embedding_precision(recipe, ctx.device))
    return measure_engine(engine, len(ctx.dataset.samples), MEASURING_SHARE * recipe.run.minutes * 60)


def measure_engine(engine: Engine, num_images: int, seconds: float) -> float:
    """Return the seconds in which an engine's faster runtime computes one of `num_images`, measured for `seconds`."""
    preprocessing, model = engine.preprocessing, engine.model
    count = min(short_batch_size(model.config, next(model.parameters()).device), num_images)
    shape = (count, preprocessing.channels, preprocessing.height, preprocessing.width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    engine.choose_runtime(images)
    engine(images)
    until = time.monotonic() + seconds
    durations: list[float] = []
    while not durations or time.monotonic() < until:
        began = time.monotonic()
        engine(images)
        durations.append(time.monotonic() - began)
    return sum(durations) / len(durations) / count


def _at(recipe: Recipe, size: int) -> Recipe:
    return replace(recipe, model=replace(recipe.model, image_size=size))
