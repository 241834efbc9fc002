"""Add classes to a bundle: new rows of its head on frozen features, and everything that follows from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.data.dataset import read_samples
from megavit.data.load import DataSource
from megavit.data.split.split_names import SPLITS
from megavit.evaluation.metrics.bootstrap import wilson_interval
from megavit.evaluation.metrics.significance import mcnemar_test
from megavit.predict.predictor import Predictor
from megavit.training.incremental.change import (
    NewHead,
    check_changeable,
    check_out,
    measure_head,
    select_examples,
    write_changed,
)
from megavit.training.incremental.head_rows import HeadInputs, cross_val_predict_rows, fit_head_rows
from megavit.training.incremental.new_images import NewImages, read_new_images
from megavit.training.incremental.outputs import SplitOutputs, compute_outputs
from megavit.training.incremental.result import AddedClass, ClassAddition
from megavit.training.incremental.run_images import ADDED, read_data_recipe, read_run_images
from megavit.training.progress import Reporter
from megavit.weights.bundle.bundle import SAMPLES

Outputs = Mapping[str, SplitOutputs]
"""Outputs of images by split."""

MIN_JUDGED_IMAGES = 3
"""Smallest number of new images of a class on which its recall is judged."""
SEPARABLE_MARGIN = 0.1
"""A class is separable unless its recall is lower than that of the former classes by more than this."""


def add_classes(
    predictor: Predictor, folders: Sequence[Path], out: Path, data: DataSource | None, reporter: Reporter
) -> ClassAddition:
    """Add each folder of images to a bundle as the class of its name, and write the bundle to `out`.

    Args:
        data: where the images of the bundle are; None for where they were in training.

    Raises:
        BundleError: if the bundle does not predict one class, or does not say where its images are.
        ConfigError, DataError: if the folders have nothing to add, or the bundle's images cannot be used.
        OutputError: if `out` is another existing folder, or cannot be written.
    """
    check_changeable(predictor)
    target = check_out(predictor, out)
    rows = read_samples(predictor.folder / SAMPLES)
    new = read_new_images(folders, predictor.labels, rows, read_data_recipe(predictor), reporter)
    former = compute_outputs(predictor, read_run_images(predictor, data, reporter), reporter)
    added = compute_outputs(predictor, new.parts, reporter)
    fitted = _fit(predictor, new, former, added)
    measured = measure_head(predictor, fitted.head, {split: former[split].plus(added[split]) for split in former})
    labels, count = former["test"].labels, len(former["test"])
    correct = former["test"].logits.argmax(dim=1) == labels
    still_correct = measured.outputs[:count].argmax(dim=1) == labels
    before = wilson_interval(int(correct.sum()), count)
    seen = _predict_new(fitted, former, added)
    write_changed(
        predictor,
        target,
        fitted.head,
        measured,
        data={ADDED: [*predictor.info.data.get(ADDED, []), *_records(folders, new, len(predictor.labels))]},
        rows=[*rows, *new.rows],
        examples=select_examples(new.parts),
    )
    return ClassAddition(
        folder=target,
        added=tuple(_judge(new, label, seen, len(predictor.labels), before.value) for label in new.with_images),
        metrics=measured.test,
        uncertainty=measured.uncertainty,
        before=before,
        after=wilson_interval(int(still_correct.sum()), count),
        p_value=mcnemar_test(correct, still_correct, "two-sided"),
        notes=tuple(new.notes),
    )


def _predict_new(fitted: "_Fitted", former: Outputs, added: Outputs) -> tuple[Tensor, Tensor]:
    """Return the classes of the new images, and those predicted for them by rows that were not fitted on them."""
    held_out = [added[split].with_head(fitted.head.weight, fitted.head.bias).logits for split in ("val", "test")]
    predicted = [fitted.predicted[len(former["train"]) :], *(logits.argmax(dim=1) for logits in held_out)]
    return torch.cat([added[split].labels for split in ("train", "val", "test")]), torch.cat(predicted)


@dataclass(frozen=True)
class _Fitted:
    """A changed head, and the classes predicted for the training images by rows that were not fitted on them."""

    head: NewHead
    predicted: Tensor


def _fit(predictor: Predictor, new: NewImages, former: Outputs, added: Outputs) -> _Fitted:
    """Return the head with rows for the new classes, and with other rows for classes that got images, if better.

    The latter are used if they lower the loss on the validation images.
    """
    train, val = (former[split].plus(added[split]) for split in ("train", "val"))
    is_new = [label for label in new.with_images if label >= len(predictor.labels)]
    fitted = _fit_rows(predictor, new.labels, train, is_new)
    if is_new == new.with_images:
        return fitted
    others = _fit_rows(predictor, new.labels, train, new.with_images)
    return min((fitted, others), key=lambda one: _loss(predictor, one.head, val))


def _fit_rows(predictor: Predictor, labels: tuple[str, ...], train: SplitOutputs, rows: list[int]) -> _Fitted:
    """Return the head with the rows of these classes fitted on training images.

    Logits are divided by the temperature of the calibration, so that new and former classes are equally confident.
    """
    temperature = predictor.info.calibration.temperature
    own = predictor.model.mlp_head.state_dict()
    kept = [label for label in range(len(predictor.labels)) if label not in rows]
    weight, bias = (own[name].cpu() for name in ("weight", "bias"))
    weight = torch.cat([weight, weight.new_zeros(len(labels) - len(weight), weight.shape[1])])
    bias = torch.cat([bias, bias.new_zeros(len(labels) - len(bias))])
    logits = torch.full((len(train), len(labels)), -torch.inf)
    logits[:, kept] = train.logits[:, kept] / temperature
    if rows:
        index = torch.full((len(labels),), -1)
        index[rows] = torch.arange(len(rows))
        inputs = HeadInputs(train.pooled, logits.logsumexp(dim=1), index[train.labels], train.labels)
        fitted = fit_head_rows(inputs, len(rows))
        weight[rows], bias[rows] = fitted.weight * temperature, fitted.bias * temperature
        logits[:, rows] = cross_val_predict_rows(inputs, fitted)
    return _Fitted(NewHead(labels, weight, bias), logits.argmax(dim=1))


def _loss(predictor: Predictor, head: NewHead, val: SplitOutputs) -> float:
    logits = val.with_head(head.weight, head.bias).logits / predictor.info.calibration.temperature
    return F.cross_entropy(logits, val.labels).item()


def _judge(new: NewImages, label: int, seen: tuple[Tensor, Tensor], former: int, reference: float) -> AddedClass:
    """Return what is known of a class that has new images.

    Args:
        seen: classes of the new images, and those predicted for them by rows that were not fitted on them.
        former: number of classes that the bundle had before.
        reference: accuracy of the former classes.
    """
    images = Counter(sample.split for part in new.parts for sample in part.samples if sample.label == label)
    labels, predicted = seen
    own = predicted[labels == label]
    recall, mistaken = None, own[own != label]
    if len(own) >= MIN_JUDGED_IMAGES:
        recall = wilson_interval(int((own == label).sum()), len(own))
    return AddedClass(
        name=new.labels[label],
        images={split: images[split] for split in SPLITS},
        is_new=label >= former,
        recall=recall,
        confused_with=new.labels[int(mistaken.mode().values)] if len(mistaken) else None,
        is_separable=None if recall is None else recall.high >= reference - SEPARABLE_MARGIN,
    )


def _records(folders: Sequence[Path], new: NewImages, former: int) -> list[dict[str, object]]:
    """Return a record of each folder for the `data` of a bundle that had `former` classes before."""
    return [
        {
            "class": new.labels[part.samples[0].label],
            "folder": str(folder.absolute()),
            "images": len(part.samples),
            "is_new": part.samples[0].label >= former,
        }
        for folder, part in zip(folders, new.parts, strict=True)
    ]
