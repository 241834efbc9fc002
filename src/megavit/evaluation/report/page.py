"""Write the HTML report of an evaluation, with examples of the most frequent confusions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megavit import __version__
from megavit.config.names import shell_quote
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import displayable_channels, limit_size
from megavit.evaluation.metrics.classification import ClassificationMetrics, list_confusions
from megavit.evaluation.metrics.dispatch import Metrics
from megavit.evaluation.report import text
from megavit.evaluation.report.html import metrics_context, render_page, write_report_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from megavit.evaluation.evaluation import Evaluation

MAX_CONFUSIONS = 10
MAX_EXAMPLES = 6
"""Maximum number of examples of each confusion, the most confident predictions first."""

MAX_DISAGREEMENTS = 50
"""Maximum number of listed disagreements; `megavit evaluate --out` writes all of them."""

_SIDE = 224


@dataclass(frozen=True)
class MisclassifiedImage:
    """A misclassified image: pixels uint8 (H, W) or (H, W, 3), and the probability of its prediction."""

    name: str
    pixels: "NDArray[np.uint8]"
    probability: float


@dataclass(frozen=True)
class Confusion:
    """A class predicted as another: `count` of its `class_images`, with the most confident examples first."""

    truth: str
    predicted: str
    count: int
    class_images: int
    examples: tuple[MisclassifiedImage, ...]


def collect_confusions(
    metrics: Metrics, outputs: Tensor, images: LabeledImages, samples: Sequence[Sample]
) -> list[Confusion]:
    """Return the most frequent confusions with examples; none unless the metrics are of classification.

    Raises:
        ImageError: if an image can no longer be read.
    """
    if not isinstance(metrics, ClassificationMetrics):
        return []
    probabilities, predictions = outputs.max(dim=1)
    targets = torch.tensor([sample.label for sample in samples])
    index = {name: i for i, name in enumerate(metrics.classes)}
    confusions = []
    for truth, predicted, count in list_confusions(metrics, MAX_CONFUSIONS):
        confused = torch.nonzero((targets == index[truth]) & (predictions == index[predicted])).flatten()
        order = probabilities[confused].argsort(descending=True, stable=True)
        examples = tuple(
            MisclassifiedImage(samples[i].name, _load_pixels(images, samples[i]), probabilities[i].item())
            for i in confused[order][:MAX_EXAMPLES].tolist()
        )
        confusions.append(Confusion(truth, predicted, count, metrics.per_class[index[truth]].images, examples))
    return confusions


def write_evaluation_report(path: Path, evaluation: "Evaluation") -> Path:
    """Write the report, a page without scripts and requests that follows the reader's light or dark setting.

    Raises:
        ImageError: if an image to be shown can no longer be read.
        OutputError: if the report cannot be written.
    """
    html = render_page(
        "evaluation.html.j2",
        title=f"Evaluation of {evaluation.bundle}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=evaluation.bundle,
        against=evaluation.against,
        facts=_list_facts(evaluation),
        comparison=evaluation.comparison,
        disagreements=evaluation.disagreements,
        max_disagreements=MAX_DISAGREEMENTS,
        confusions=collect_confusions(
            evaluation.metrics, evaluation.outputs, evaluation.images, evaluation.selection.samples
        ),
        subgroups=evaluation.subgroups,
        robustness=evaluation.robustness,
        uncertainty=evaluation.uncertainty,
        calibration=evaluation.calibration,
        reliability=None,
        bundle_in_shell=shell_quote(evaluation.bundle),
        text=text,
        val=None,
        **metrics_context(evaluation.metrics),
    )
    return write_report_file(path, html)


def _list_facts(evaluation: "Evaluation") -> list[tuple[str, str]]:
    return [
        ("Data", evaluation.images.source),
        ("Split", evaluation.selection.split),
        ("Excluded as seen in training", f"{evaluation.selection.excluded:,}"),
        *((f"Skipped: {reason}", f"{count:,}") for reason, count in evaluation.images.skipped_by_reason().items()),
        ("Precision", evaluation.precision),
        ("megavit", __version__),
    ]


def _load_pixels(images: LabeledImages, sample: Sample) -> "NDArray[np.uint8]":
    pixels = displayable_channels(limit_size(images.load_pixels(sample, (_SIDE, _SIDE)), _SIDE))
    return (pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)).contiguous().numpy()
