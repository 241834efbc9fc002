"""Select representative images: reference images, examples for the report, and samples for OOD scores."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from megavit.config.target import Target
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import displayable_channels, limit_size
from megavit.data.targets import target_tensor
from megavit.training.report.figures import Example
from megavit.training.task import Task

# Largest share of a time budget for explaining examples, without one seconds; but some are always explained.
EXPLANATION_SHARE, EXPLANATION_SECONDS, MIN_EXPLAINED = 0.04, 30.0, 4


@dataclass(frozen=True)
class Explanations:
    """Explanations of examples: a function that overlays images with them, and the seconds that it may take."""

    overlay: Callable[[Sequence[Tensor]], Sequence[Image.Image]]
    seconds: float


REFERENCE_IMAGES = 8
REFERENCE_SIDE = 512
# Number of wrong, and of correct, predictions to select.
NUM_EXAMPLES = 12
TOP_K = 3
# An explanation takes as many forward and backward passes.
EXPLANATION_PASSES = 8
# Number of training images to fit the out-of-distribution score on, and minimum per class; with the minimum, detection
# with 5,000 classes is as good as with 1,000.
OOD_FIT_SAMPLES, MIN_OOD_SAMPLES_PER_CLASS = 2_000, 10


def select_reference_images(dataset: LabeledImages) -> list[Tensor]:
    """Return a few test images, spread over classes, labels or values, as uint8 (C, H, W), downscaled if large."""
    samples = dataset.in_split("test")
    if dataset.target == "regression":
        ranked = sorted(samples, key=lambda sample: sample.value)
        count = min(REFERENCE_IMAGES, len(ranked))
        selected = [ranked[round(index * (len(ranked) - 1) / max(1, count - 1))] for index in range(count)]
    else:
        first: dict[int, Sample] = {}
        for sample in samples:
            first.setdefault(_first_label(sample), sample)
        selected = [first[label] for label in sorted(first)][:REFERENCE_IMAGES]
    return [limit_size(dataset.load_pixels(sample), REFERENCE_SIDE) for sample in selected]


def _first_label(sample: Sample) -> int:
    match sample.target:
        case int() as label:
            return label
        case tuple() as labels if labels:
            return labels[0]
        case _:
            return -1


def select_ood_samples(training: Sequence[Sample], count: int = OOD_FIT_SAMPLES) -> Sequence[Sample]:
    """Return about `count` evenly spaced training images, and more of classes with too few of these."""
    step = -(-len(training) // count)
    by_class: dict[int, list[int]] = {}
    for index, sample in enumerate(training):
        if isinstance(sample.target, int):
            by_class.setdefault(sample.target, []).append(index)
    selected = set(range(0, len(training), step))
    for indices in by_class.values():
        missing = min(MIN_OOD_SAMPLES_PER_CLASS, len(indices)) - sum(index in selected for index in indices)
        others = [index for index in indices if index not in selected]
        selected |= {others[number * len(others) // missing] for number in range(missing)}
    return [training[index] for index in sorted(selected)]


def select_examples(
    dataset: LabeledImages, outputs: Tensor, target: Target, explanations: Explanations | None = None
) -> list[Example]:
    """Return the worst mistakes, or largest errors for regression, and other predictions spread over the test images.

    Args:
        outputs: outputs for the test images, from `megavit.model.outputs.logits.logits_to_outputs`.
        explanations: how the first of them are explained, wrong and correct ones in turn; None for no overlays.
    """
    samples = dataset.in_split("test")
    labels = target_tensor(samples, dataset.target, len(dataset.classes))
    match target.kind:
        case "classification":
            rank, predicted = outputs.max(dim=1)
            is_correct = predicted == labels
        case "multilabel":
            rank = outputs.amax(dim=1)
            is_correct = ((outputs >= torch.tensor(target.thresholds)) == labels).all(dim=1)
        case "regression":
            rank = (outputs - labels).abs()
            # In regression, the largest errors count as wrong.
            is_correct = torch.ones_like(rank, dtype=torch.bool)
            is_correct[rank.argsort(descending=True)[: min(NUM_EXAMPLES, len(samples) // 2)]] = False
    wrong = [index for index in rank.argsort(descending=True).tolist() if not is_correct[index]][:NUM_EXAMPLES]
    correct = torch.nonzero(is_correct).flatten().tolist()
    correct = correct[:: max(1, len(correct) // NUM_EXAMPLES)][:NUM_EXAMPLES]
    examples: list[Example] = []
    images: list[Tensor] = []
    for index in wrong + correct:
        sample, output = samples[index], outputs[index]
        image = limit_size(dataset.load_pixels(sample, (REFERENCE_SIDE, REFERENCE_SIDE)), REFERENCE_SIDE)
        images.append(image)
        truth, predicted_names, top = _describe(dataset, sample, output, target)
        examples.append(
            Example(
                image=_to_numpy(displayable_channels(image)),
                name=sample.name,
                truth=truth,
                top=top,
                prediction=predicted_names,
                is_correct=bool(is_correct[index]),
            )
        )
    if explanations is None or not images:
        return examples
    order = sorted(range(len(images)), key=lambda index: index - (len(wrong) if index >= len(wrong) else 0))
    for index, overlay in zip(order, _overlay([images[index] for index in order], explanations), strict=False):
        examples[index] = replace(examples[index], overlay=np.asarray(overlay))
    return examples


def _overlay(images: list[Tensor], explanations: Explanations) -> list[Image.Image]:
    """Return the overlays of the first `MIN_EXPLAINED` images, and of as many more as the time allows."""
    began = time.monotonic()
    overlays = [*explanations.overlay(images[:MIN_EXPLAINED])]
    seconds = time.monotonic() - began
    more = int((explanations.seconds / max(seconds, 1e-6) - 1) * len(overlays))
    rest = images[MIN_EXPLAINED:][: max(0, more)]
    return [*overlays, *(explanations.overlay(rest) if rest else [])]


def explanation_seconds(task: Task) -> float:
    """Return the seconds that explaining the examples of a run may take."""
    run = task.recipe.run
    return EXPLANATION_SECONDS if run.epochs else EXPLANATION_SHARE * 60 * run.minutes


def estimate_explanations(task: Task, image_seconds: float) -> float:
    """Return the seconds that explaining examples will take, if a training step takes `image_seconds` for an image."""
    each = EXPLANATION_PASSES * image_seconds
    return min(2 * NUM_EXAMPLES * each, max(explanation_seconds(task), MIN_EXPLAINED * each))


def _describe(
    dataset: LabeledImages, sample: Sample, output: Tensor, target: Target
) -> tuple[str, str, list[tuple[str, float]]]:
    if target.kind == "regression":
        return f"{sample.value:.4g}", f"{output.item():.4g}", []
    values, indices = output.topk(min(TOP_K, len(dataset.classes)))
    top = [(dataset.classes[k], value) for k, value in zip(indices.tolist(), values.tolist(), strict=True)]
    if target.kind == "classification":
        return dataset.classes[sample.label], top[0][0], top
    predicted = torch.nonzero(output >= torch.tensor(target.thresholds)).flatten().tolist()
    return _join(dataset, sample.labels), _join(dataset, predicted), top


def _join(dataset: LabeledImages, labels: Sequence[int]) -> str:
    return ", ".join(dataset.classes[label] for label in labels) or "no label"


def _to_numpy(image: Tensor) -> np.ndarray:
    return (image[0] if image.shape[0] == 1 else image.permute(1, 2, 0)).numpy()
