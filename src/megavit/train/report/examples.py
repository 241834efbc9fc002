"""Images of a run that stand for the others: those the bundle proves itself by, and those the report shows."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from megavit.config.target import Target
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import displayable_channels, limit_size
from megavit.data.targets import target_tensor
from megavit.train.report.figures import Example

Explain = Callable[[Sequence[Tensor]], Sequence[Image.Image]]

REFERENCE_IMAGES = 8
REFERENCE_SIDE = 512
EXAMPLES = 12
TOP = 3


def reference_images(images: LabeledImages) -> list[Tensor]:
    """A few test images, spread over classes, labels or scores, uint8 (C, H, W), the large ones made smaller."""
    samples = images.in_split("test")
    if images.target == "regression":
        ranked = sorted(samples, key=lambda sample: sample.value)
        chosen = [ranked[place] for place in _spread(len(ranked), REFERENCE_IMAGES)]
    else:
        first: dict[int, Sample] = {}
        for sample in samples:
            first.setdefault(_first_label(sample), sample)
        chosen = [first[label] for label in sorted(first)][:REFERENCE_IMAGES]
    return [limit_size(images.load_pixels(sample), REFERENCE_SIDE) for sample in chosen]


def examples(images: LabeledImages, answers: Tensor, target: Target, explain: Explain | None = None) -> list[Example]:
    """The worst mistakes, and right answers spread over the test images; of scores, the worst and some others.

    Args:
        answers: for the test images, as `megavit.predict.postprocess.postprocess.logits_to_outputs` gives them.
        target: of both.
        explain: lays over pictures what their answers come from; None: nobody does.
    """
    samples = images.in_split("test")
    truth = target_tensor(samples, images.target, len(images.classes))
    match target.kind:
        case "classification":
            confidence, predicted = answers.max(dim=1)
            right = predicted == truth
        case "multilabel":
            confidence = answers.amax(dim=1)
            right = ((answers >= torch.tensor(target.thresholds)) == truth).all(dim=1)
        case "regression":
            confidence = (answers - truth).abs()
            # There is no right or wrong: all but the worst.
            right = torch.ones_like(confidence, dtype=torch.bool)
            right[confidence.argsort(descending=True)[: min(EXAMPLES, len(samples) // 2)]] = False
    wrong_places = [i for i in confidence.argsort(descending=True).tolist() if not right[i]][:EXAMPLES]
    right_places = torch.nonzero(right).flatten().tolist()
    right_places = right_places[:: max(1, len(right_places) // EXAMPLES)][:EXAMPLES]
    places = wrong_places + right_places
    size = (REFERENCE_SIDE, REFERENCE_SIDE)
    pictures = [limit_size(images.load_pixels(samples[i], size), REFERENCE_SIDE) for i in places]
    shown = [
        _example(images, picture, samples[i], answers[i], target, bool(right[i]))
        for i, picture in zip(places, pictures, strict=True)
    ]
    if explain is None or not pictures:
        return shown
    return [replace(one, overlay=np.asarray(over)) for one, over in zip(shown, explain(pictures), strict=True)]


def _example(
    images: LabeledImages, pixels: Tensor, sample: Sample, answer: Tensor, target: Target, right: bool
) -> Example:
    pixels = displayable_channels(pixels)
    picture = (pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)).numpy()
    if target.kind == "regression":
        return Example(
            image=picture,
            name=sample.name,
            truth=f"{sample.value:.4g}",
            top=(),
            answer=f"{answer.item():.4g}",
            right=right,
        )
    values, indices = answer.topk(min(TOP, len(images.classes)))
    top = [(images.classes[k], p) for k, p in zip(indices.tolist(), values.tolist(), strict=True)]
    if target.kind == "classification":
        truth, said = images.classes[sample.label], top[0][0]
    else:
        given = torch.nonzero(answer >= torch.tensor(target.thresholds)).flatten().tolist()
        truth, said = _listed(images, sample.labels), _listed(images, given)
    return Example(image=picture, name=sample.name, truth=truth, top=top, answer=said, right=right)


def _listed(images: LabeledImages, labels: Sequence[int]) -> str:
    return ", ".join(images.classes[label] for label in labels) or "no label"


def _first_label(sample: Sample) -> int:
    match sample.target:
        case int() as label:
            return label
        case tuple() as labels if labels:
            return labels[0]
        case _:
            return -1


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` places of `count`, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]
