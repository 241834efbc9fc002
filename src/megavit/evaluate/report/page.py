"""The report of an evaluation: one HTML file with its figures, and with pictures of what is taken for what."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megavit import __version__
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import shrink, visible
from megavit.evaluate.evaluation import Evaluation
from megavit.evaluate.metrics.classification import ClassificationMetrics, list_confusions
from megavit.evaluate.metrics.dispatch import Metrics
from megavit.evaluate.report import text
from megavit.evaluate.report.html import environment, result_context, write_page

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFUSIONS = 10
PICTURES = 6
"""Of each confusion, the surest answers first."""

CHANGED = 50
"""Images listed that two models answer otherwise; `megavit evaluate --out` writes them all."""

_SIDE = 224


@dataclass(frozen=True)
class Shown:
    """One wrongly answered image: uint8 (H, W) or (H, W, 3), and the probability of its answer."""

    name: str
    image: "NDArray[np.uint8]"
    probability: float


@dataclass(frozen=True)
class Confusion:
    """One class taken for another.

    Attributes:
        truth, answer: the classes.
        count: images confused so, of `images` of the true class.
        pictures: of some, the surest first.
    """

    truth: str
    answer: str
    count: int
    images: int
    pictures: tuple[Shown, ...]


def collect_confusions(
    metrics: Metrics, answers: Tensor, images: LabeledImages, samples: Sequence[Sample]
) -> list[Confusion]:
    """The commonest confusions with their pictures; none for labels and scores.

    Args:
        answers: for `samples`, in order, as `Predictor.outputs` gives them.

    Raises:
        ImageError: for an image that cannot be read any more.
    """
    if not isinstance(metrics, ClassificationMetrics):
        return []
    probabilities, said = answers.max(dim=1)
    truth = torch.tensor([sample.label for sample in samples])
    place = {name: number for number, name in enumerate(metrics.classes)}
    found = []
    for true, answer, count in list_confusions(metrics, CONFUSIONS):
        confused = torch.nonzero((truth == place[true]) & (said == place[answer])).flatten()
        surest = confused[probabilities[confused].argsort(descending=True, stable=True)][:PICTURES].tolist()
        pictures = (Shown(samples[i].name, _pixels(images, samples[i]), probabilities[i].item()) for i in surest)
        found.append(Confusion(true, answer, count, metrics.per_class[place[true]].images, tuple(pictures)))
    return found


def write_evaluation_report(path: Path, found: Evaluation, bundle: str, against: str, precision: str) -> Path:
    """Write the page, which follows the reader's light or dark setting and forbids itself scripts and requests.

    Args:
        bundle, against: as the user named them; "" where there is no other.
        precision: that the answers were computed in.

    Raises:
        ImageError: for an image to be shown that cannot be read any more.
        OutputError: the page cannot be written.
    """
    page = environment().get_template("evaluation.html.j2")
    html = page.render(
        title=f"Evaluation of {bundle}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=bundle,
        against=against,
        facts=_facts(found, precision),
        comparison=found.comparison,
        changed=found.changed,
        most_changed=CHANGED,
        confusions=collect_confusions(found.metrics, found.answers, found.images, found.choice.samples),
        groups=found.groups,
        robustness=found.robustness,
        trust=found.trust,
        fitted=found.fitted,
        reliability=None,
        bundle_in_shell=shlex.quote(bundle),
        text=text,
        val=None,
        **result_context(found.metrics),
    )
    # File names may hold bytes that are no text; they must not cost the whole report.
    return write_page(path, html.encode("utf-8", errors="replace"))


def _facts(found: Evaluation, precision: str) -> list[tuple[str, str]]:
    skipped = found.images.skipped_by_reason().items()
    return [
        ("Data", found.images.source),
        ("Split", found.choice.split),
        ("Left out as learned from", f"{found.choice.learned:,}"),
        *((f"Skipped: {reason}", f"{count:,}") for reason, count in skipped),
        ("Precision", precision),
        ("megavit", __version__),
    ]


def _pixels(images: LabeledImages, sample: Sample) -> "NDArray[np.uint8]":
    pixels = visible(shrink(images.pixels(sample, (_SIDE, _SIDE)), _SIDE))
    return (pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)).contiguous().numpy()
