"""Load the teacher of a training run, and choose the number of views of each image that it sees."""

import math
from dataclasses import dataclass, replace
from typing import Any

from megavit.config.names import canonical
from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import Recipe
from megavit.data.dataset import LabeledImages
from megavit.data.image_dataset import can_convert_channels
from megavit.engine.engine import Engine, fast_precision
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.training.context import RunContext
from megavit.training.loop.build import adapt_preprocessing
from megavit.training.setup.pretrained import fetch_progress
from megavit.training.setup.resolution import DEFAULT_SIDE, measure_engine
from megavit.weights.backbones.fetch import load_source
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.pretrained import MEGAVIT, PretrainedModel, fingerprint

# Number of views without a time budget, and the largest with one.
VIEWS = 4
# Share of the remaining time for the teacher's outputs, and the largest share with which a run is still begun.
TEACHER_SHARE, MAX_TEACHER_SHARE = 0.2, 0.5
MEASURING_SHARE = 0.004


@dataclass(frozen=True)
class Teacher:
    """A larger model that training imitates.

    Attributes:
        pretrained: its weights and where they come from.
        engine: model with these weights, for the size of `preprocessing`.
        outputs: for each class of the images, the index of the teacher's output; None if it does not know the classes.
        fingerprint: fingerprint of the weights.
    """

    pretrained: PretrainedModel
    engine: Engine
    outputs: tuple[int, ...] | None
    fingerprint: str

    @property
    def preprocessing(self) -> Preprocessing:
        return self.engine.preprocessing

    @property
    def dim(self) -> int:
        """The number of its features."""
        return self.engine.model.config.pooled_dim

    def record(self) -> dict[str, Any]:
        """Return the teacher's name, the origin and license of its weights, and what is imitated."""
        origin, size = self.pretrained.origin, self.preprocessing
        return {
            "name": self.pretrained.name,
            "origin": origin.place,
            "license": origin.license,
            "imitated": "features and logits" if self.outputs else "features",
            "image_size": [size.height, size.width],
        }

    def describe(self) -> str:
        """Return a sentence on the teacher: its origin and license, and what is imitated."""
        origin = self.pretrained.origin
        license_name = f", license {origin.license}" if origin.license else ""
        what = "its features and its logits" if self.outputs else "its features"
        return f"teacher: {self.pretrained.name}, weights of {origin.place}{license_name}; {what} are imitated"


def load_teacher(ctx: RunContext, recipe: Recipe) -> Teacher | None:
    """Return the teacher of a recipe, on the run's device; None without one.

    Backbones and other libraries' models see images of about 112 pixels, if they are for larger ones; a bundle sees
    those of its own size.

    Raises:
        BundleError, ConfigError, OutputError: if it cannot be found, fetched or read, or does not fit the images.
    """
    if recipe.distillation is None:
        return None
    pretrained = load_source(recipe.distillation.teacher, ctx.reporter.say, fetch_progress(ctx.reporter))
    outputs = match_classes(pretrained, ctx.dataset)
    own = pretrained.config
    config = replace(own, num_classes=own.num_classes if outputs else 0, image_size=choose_teacher_size(pretrained))
    channels = pretrained.preprocessing.channels if pretrained.preprocessing else config.channels
    present = {sample.channels for sample in ctx.dataset.samples}
    if not all(can_convert_channels(number, channels) for number in present):
        raise ConfigError(
            f"the teacher {pretrained.name} is for images with {channels} channels, but these have "
            f"{' and '.join(map(str, sorted(present)))}"
        )
    model = MegaVit.from_config(config)
    initialize_from(model, pretrained, head=outputs is not None)
    preprocessing = adapt_preprocessing(config, pretrained)
    engine = Engine(model.to(ctx.device).eval(), preprocessing, fast_precision(ctx.device))
    if recipe.run.epochs:
        engine.patience = math.inf  # a run by epochs repeats to the bit
    teacher = Teacher(pretrained, engine, outputs, fingerprint(pretrained))
    ctx.reporter.say(teacher.describe())
    return teacher


def choose_teacher_size(pretrained: PretrainedModel) -> tuple[int, int]:
    """Return the (height, width) of a teacher's images: its own, unless it is a larger model of another library."""
    height, width = pretrained.config.image_hw
    if pretrained.format == MEGAVIT or max(height, width) <= DEFAULT_SIDE:
        return height, width
    rows, columns = (max(1, round(DEFAULT_SIDE / side)) * side for side in pretrained.config.patch_hw)
    return rows, columns


def match_classes(pretrained: PretrainedModel, dataset: LabeledImages) -> tuple[int, ...] | None:
    """Return the index of the teacher's output for each class of the images; None unless it has exactly these."""
    if dataset.target != "classification" or pretrained.target.kind != "classification":
        return None
    indices = {canonical(label): index for index, label in enumerate(pretrained.labels)}
    names = [canonical(name) for name in dataset.classes]
    return tuple(indices[name] for name in names) if indices.keys() == set(names) else None


def choose_views(ctx: RunContext, recipe: Recipe, teacher: Teacher) -> tuple[int, float]:
    """Return the number of views that the teacher sees of each training image, and the seconds that they will take.

    A run by epochs has 0 seconds, as nothing is measured.

    Raises:
        ConfigError: if the time does not suffice for one view.
    """
    assert recipe.distillation is not None
    requested = recipe.distillation.views
    if recipe.run.epochs:
        return requested or VIEWS, 0.0
    count, minutes = len(ctx.dataset.in_split("train")), recipe.run.minutes
    view_seconds = count * measure_engine(teacher.engine, count, MEASURING_SHARE * minutes * 60)
    left = minutes * 60 - ctx.clock.elapsed
    views = requested or min(VIEWS, max(1, int(TEACHER_SHARE * left / view_seconds)))
    if views * view_seconds > MAX_TEACHER_SHARE * left:
        raise ConfigError(
            f"the teacher would take about {views * view_seconds:.0f} of the {max(0.0, left):.0f} seconds left for "
            f"{count:,} images: give it more time with --minutes, or choose a smaller teacher"
        )
    ctx.reporter.say(
        f"the teacher sees {views} {'views' if views > 1 else 'view'} of each of {count:,} images, which will take "
        f"about {views * view_seconds:.0f} of the {left:.0f} seconds left"
    )
    return views, views * view_seconds
