"""Compare a trained classifier with simple baselines on small copies of the same images."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import Recipe
from megavit.config.target import Target
from megavit.data.dataset import LabeledImages
from megavit.evaluation.compare import Comparison, PairedOutputs, compare_outputs
from megavit.evaluation.probes.baselines import (
    MAX_TRAIN_IMAGES,
    SIDE,
    Baseline,
    BaselinePlan,
    Method,
    SmallImages,
    Split,
    fit_baselines,
    plan_baselines,
    shrink,
    spread_evenly,
)
from megavit.evaluation.report.html import count_images, percent
from megavit.evaluation.report.text import format_p_value
from megavit.training.data import TrainLoader
from megavit.training.task import Task

# Largest share of a time budget; without one, seconds.
BASELINE_SHARE, BASELINE_SECONDS = 0.02, 10.0
NAMES: dict[Method, str] = {
    "nearest neighbors": "nearest neighbors on thumbnails",
    "logistic regression": "a logistic regression on thumbnails",
    "HOG and colors": "a logistic regression on histograms of gradients and colors",
}


@dataclass(frozen=True)
class BaselineResult:
    """A baseline's accuracy on the test images, and the paired comparison of the model (A) with it (B)."""

    method: Method
    setting: str
    accuracy: float
    comparison: Comparison

    @property
    def is_surpassed(self) -> bool:
        """Whether the model is better by more than chance."""
        return self.comparison.better == "A"

    @property
    def name(self) -> str:
        return NAMES[self.method]


@dataclass(frozen=True)
class BaselineSummary:
    """The baselines' results beside the model's accuracy on the test images.

    Attributes:
        images: number of training images that the baselines were fitted on, of `available`.
        seconds: time that they took.
        is_pretrained: whether the model began from pretrained weights.
    """

    accuracy: float
    results: tuple[BaselineResult, ...]
    images: int
    available: int
    seconds: float
    is_pretrained: bool

    @property
    def rival(self) -> BaselineResult | None:
        """The best baseline that the model does not surpass by more than chance, if any."""
        rivals = [result for result in self.results if not result.is_surpassed]
        return max(rivals, key=lambda result: result.accuracy, default=None)

    @property
    def warning(self) -> str | None:
        """A sentence on a baseline that the model does not surpass; None if it surpasses all."""
        if self.rival is None:
            return None
        comparison, p_value = self.rival.comparison, self.rival.comparison.p_value
        verdict = "worse than" if comparison.better == "B" else "not better, by more than chance, than"
        return (
            f"The model is {verdict} {self.rival.name}: {percent(self.accuracy)} against "
            f"{percent(self.rival.accuracy)} on {count_images(comparison.images, 'test')} "
            f"(p {format_p_value(1.0 if p_value is None else p_value)})."
        )

    @property
    def advice(self) -> str | None:
        """A sentence on what to do about a warning."""
        if self.rival is None:
            return None
        helps = [
            "more time (--minutes)",
            "other pretrained weights (--from)" if self.is_pretrained else "pretrained weights (--from)",
            "better labels (megavit check lists doubtful ones)",
        ]
        if self.rival.comparison.better == "neither":
            helps.append("more test images, to tell the two apart")
        return f"What may help: {', '.join(helps[:-1])}, or {helps[-1]}."

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON types."""
        results = asdict(self)
        del results["seconds"], results["is_pretrained"]  # equal runs differ in the first; the bundle has the second
        return results | {"warning": self.warning}


def describe_baselines(baselines: BaselineSummary) -> str:
    """Return a line such as "model 81.2%  |  thumbnails: nearest neighbors 53.5%, logistic regression 47.0%"."""
    listed = ", ".join(f"{result.method} {percent(result.accuracy)}" for result in baselines.results)
    return f"model {percent(baselines.accuracy)}  |  thumbnails: {listed}"


def small_side(preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the (height, width) of the small copies, no larger than the model's input."""
    return min(SIDE, preprocessing.height), min(SIDE, preprocessing.width)


def shrink_training_images(
    loader: TrainLoader, preprocessing: Preprocessing, count: int | None = None
) -> SmallImages | None:
    """Return small copies of at most `MAX_TRAIN_IMAGES` of the first `count` images of a classifier's loader.

    None if the images are not in memory, as it would take long to read them once more.
    """
    if loader.memory is None or loader.images.images.target != "classification":
        return None
    chosen = spread_evenly(loader.labels[:count], MAX_TRAIN_IMAGES)
    batches = loader.batches(indices.tolist() for indices in chosen.split(loader.inference_batch_size))
    pixels = torch.cat([shrink(images, small_side(preprocessing)) for images, _ in batches])
    return SmallImages(pixels, loader.labels[chosen])


def plan_for(dataset: LabeledImages, preprocessing: Preprocessing, recipe: Recipe, training: int) -> BaselinePlan:
    """Return what fits into the time for baselines, with this number of training images at hand."""
    sizes = dataset.split_sizes()
    seconds = BASELINE_SECONDS if recipe.run.epochs else BASELINE_SHARE * 60 * recipe.run.minutes
    return plan_baselines(
        (training, sizes["val"], sizes["test"]),
        (preprocessing.channels, *small_side(preprocessing)),
        len(dataset.classes),
        seconds,
    )


def estimate_baselines(dataset: LabeledImages, preprocessing: Preprocessing, recipe: Recipe) -> float:
    """Return the seconds that the baselines of a run will take; 0 unless each image has one class."""
    if dataset.target != "classification":
        return 0.0
    return plan_for(dataset, preprocessing, recipe, dataset.split_sizes()["train"]).seconds


def compare_with_baselines(dataset: LabeledImages, task: Task, images: Split, outputs: Tensor) -> BaselineSummary:
    """Fit the baselines that the time allows, and compare the model's calibrated `outputs` for the test images."""
    began = time.monotonic()
    plan = plan_for(dataset, task.preprocessing, task.recipe, len(images.train.labels))
    labels = images.test.labels
    results = tuple(compare_baseline(baseline, outputs, labels) for baseline in fit_baselines(images, plan))
    return BaselineSummary(
        accuracy=(outputs.argmax(dim=1) == labels).double().mean().item(),
        results=results,
        images=plan.images,
        available=dataset.split_sizes()["train"],
        seconds=time.monotonic() - began,
        is_pretrained=task.recipe.model.source is not None,
    )


def compare_baseline(baseline: Baseline, outputs: Tensor, labels: Tensor) -> BaselineResult:
    """Return the result of a baseline, with the comparison of the model's `outputs` for the same images."""
    answers = F.one_hot(baseline.predicted, outputs.shape[1]).to(outputs.dtype)
    target = Target()
    comparison = compare_outputs(PairedOutputs(outputs, answers, labels, target, target))
    return BaselineResult(baseline.method, baseline.setting, comparison.differences[0].b, comparison)
