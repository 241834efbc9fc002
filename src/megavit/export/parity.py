"""Whether an exported model answers as its bundle does, on real images, in the runtime that it was made for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megavit.config.export_info import DISTANCE, EMBEDDING, PROBABILITIES, SCORE, ExportInfo, ExportPrecision
from megavit.data.augment import normalize
from megavit.data.scan import Progress
from megavit.errors import ExportError
from megavit.evaluate.metrics.bootstrap import Interval
from megavit.evaluate.metrics.significance import bootstrap_accuracy_difference
from megavit.export.parity_images import ParityImage, stretched
from megavit.predict.exported_predictor import to_input_channels
from megavit.predict.predictor import Predictor

Run = Callable[[np.ndarray], dict[str, np.ndarray]]

BATCHES = (1, 2, 5, 16)


@dataclass(frozen=True)
class Tolerance:
    """How far an exported model may be off, on any image.

    Attributes:
        answers: of probabilities; of scores, in standard deviations of those of training.
        features: of embeddings and distances, as a share of the largest.
    """

    answers: float
    features: float


TOLERANCES: dict[ExportPrecision, Tolerance] = {
    "float32": Tolerance(1e-3, 1e-3),
    "float16": Tolerance(1e-2, 1e-2),
    "bfloat16": Tolerance(1e-1, 1e-1),
}
"""By precision; what rounds to 8 bits is judged by how many more images it gets wrong."""


@dataclass(frozen=True)
class ParityResult:
    """What was found.

    Attributes:
        images: compared.
        stretched: how many of these are others at another size.
        answers, features: the largest differences, as of `Tolerance`.
        changed: images with another likeliest class, or other labels.
        worst: the image that is farthest off.
        accuracy, exported_accuracy: of the images whose class is known; None where none is.
        change: of that, paired by image.
    """

    images: int
    stretched: int
    answers: float
    features: float
    changed: int
    worst: str
    accuracy: float | None = None
    exported_accuracy: float | None = None
    change: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Answers:
    """Of some images: probabilities (N, classes), scores (N, 1) in standard deviations, or nothing (N, 0);
    embeddings (N, D); distances (N, 1) or (N, 0)."""

    answers: Tensor
    embedding: Tensor
    distance: Tensor


def compare(
    predictor: Predictor,
    run: Run,
    info: ExportInfo,
    proofs: Sequence[ParityImage],
    batches: Sequence[int] = BATCHES,
    progress: Progress | None = None,
) -> ParityResult:
    """The model that `run` runs, beside the predictor's by PyTorch in float32.

    Args:
        run: maps an input to outputs by name.
        proofs: real images; a few are tried at other sizes, too.
        batches: sizes that are tried in turn.
    """
    images = [*proofs, *(stretched(proofs) if info.input == "pixels" else [])]
    parts, done = [], 0
    order: list[int] = []
    for places in _batches(images, info, batches):
        batch = [images[place] for place in places]
        parts.append((_expected(predictor, batch), _found(predictor, run, info, batch)))
        order += places
        done += len(batch)
        if progress is not None:
            progress(done, len(images))
    expected, found = (_joined([part[side] for part in parts]) for side in (0, 1))
    answers = _apart(expected.answers, found.answers)
    features = torch.maximum(
        _apart(expected.embedding, found.embedding) / _largest(expected.embedding),
        _apart(expected.distance, found.distance) / _largest(expected.distance),
    )
    # The answers decide which is worst, where there are any.
    worst = images[order[int((answers if answers.any() else features).argmax())]]
    labels = [images[place].label for place in order]
    classifies = predictor.target == "classification" and bool(expected.answers.shape[1])
    known = torch.tensor([classifies and label is not None for label in labels])
    right: list[Tensor] = []
    if known.any():
        truth = torch.tensor([label for label in labels if label is not None])
        right = [side.answers[known].argmax(dim=1) == truth for side in (expected, found)]
    return ParityResult(
        images=len(images),
        stretched=len(images) - len(proofs),
        answers=answers.max().item(),
        features=features.max().item(),
        changed=int((_decided(predictor, expected.answers) != _decided(predictor, found.answers)).any(dim=1).sum()),
        worst=worst.name,
        accuracy=right[0].double().mean().item() if right else None,
        exported_accuracy=right[1].double().mean().item() if right else None,
        change=bootstrap_accuracy_difference(*right) if right else None,
    )


def check(agreement: ParityResult, precision: ExportPrecision, most: float, where: str) -> None:
    """Raise an ExportError unless the model agrees well enough.

    Args:
        most: points of accuracy that 8-bit integers may cost.
        where: the runtime's name.
    """
    bound = TOLERANCES.get(precision)
    if bound is None:
        assert agreement.change is not None
        lost = -100 * agreement.change.value
        if not lost <= most:
            raise ExportError(
                f"int8 in {where} loses {lost:.2f} points of accuracy on {agreement.images:,} images, more than "
                f"{most:g}; nothing is written. --max-accuracy-drop allows more, --precision float16 costs next to "
                "nothing"
            )
        return
    if not (agreement.answers <= bound.answers and agreement.features <= bound.features):
        raise ExportError(
            f"{where} does not answer as PyTorch does: of {agreement.images:,} real images {agreement.worst!r} is the "
            f"farthest off, answers differ by up to {agreement.answers:.2g} (at most {bound.answers:g} is allowed) and "
            f"features by {agreement.features:.2g} of the largest ({bound.features:g}); nothing is written"
        )


def _batches(images: Sequence[ParityImage], info: ExportInfo, batches: Sequence[int]) -> Iterator[list[int]]:
    """Places of images that can be given at once, in batches of these sizes as far as there are so many alike."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        by_size.setdefault(image.pixels.shape[:2] if info.input == "pixels" else (), []).append(place)
    sizes = cycle(batches)
    for places in by_size.values():
        start = 0
        while start < len(places):
            size = next(sizes)
            yield places[start : start + size]
            start += size


def _expected(predictor: Predictor, batch: Sequence[ParityImage]) -> Answers:
    seen = predictor.engine.run_pytorch(torch.stack([predictor.prepare(one.pixels) for one in batch]))
    likeness = predictor.calibrator.ood
    distance = None if likeness is None else likeness.distance(seen.pooled)
    answers = predictor.calibrator.outputs(seen.logits) if predictor.info.model.num_classes else None
    return _answers(predictor, answers, seen.pooled, distance)


def _found(predictor: Predictor, run: Run, info: ExportInfo, batch: Sequence[ParityImage]) -> Answers:
    if info.input == "pixels":
        given = np.stack([to_input_channels(one.pixels, info) for one in batch])
    else:
        prepared = torch.stack([predictor.prepare(one.pixels) for one in batch])
        given = normalize(prepared, predictor.info.preprocessing).numpy()
    outputs = {name: torch.from_numpy(np.asarray(values)) for name, values in run(given).items()}
    answers = outputs.get(PROBABILITIES, outputs.get(SCORE))
    return _answers(predictor, answers, outputs[EMBEDDING], outputs.get(DISTANCE))


def _answers(predictor: Predictor, answers: Tensor | None, embedding: Tensor, distance: Tensor | None) -> Answers:
    count = len(embedding)
    none = torch.zeros(count, 0)
    answers = none if answers is None else answers.float().reshape(count, -1)
    if predictor.target == "regression":
        answers = answers / predictor.info.target.std
    return Answers(answers, embedding.float(), none if distance is None else distance.float().reshape(count, 1))


def _joined(parts: Sequence[Answers]) -> Answers:
    return Answers(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("answers", "embedding", "distance"))
    )


def _decided(predictor: Predictor, answers: Tensor) -> Tensor:
    """What is said of each image, (N, any) whole numbers: the likeliest class, or which labels are given."""
    match predictor.target:
        case "classification":
            return answers.argmax(dim=1, keepdim=True) if answers.shape[1] else answers.long()
        case "multilabel":
            return (answers >= torch.tensor(predictor.info.target.thresholds)).long()
        case "regression":
            return torch.zeros(len(answers), 1, dtype=torch.int64)


def _apart(expected: Tensor, found: Tensor) -> Tensor:
    """The largest difference of each image, (N,); infinite where there is no number."""
    if not expected.shape[1]:
        return torch.zeros(len(expected))
    return (expected - found).abs().nan_to_num(torch.inf, torch.inf).amax(dim=1)


def _largest(values: Tensor) -> float:
    return max(values.abs().max().item(), 1e-30) if values.numel() else 1.0
