"""Add classes to a bundle: new rows of its head on frozen features, and everything that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.data.dataset import read_samples
from megavit.data.load import DataSource
from megavit.evaluation.metrics.bootstrap import wilson_interval
from megavit.evaluation.metrics.significance import mcnemar_test
from megavit.predict.predictor import Predictor
from megavit.training.incremental.change import (
    NewHead,
    check_changeable,
    check_out,
    get_head_parts,
    measure_head,
    select_examples,
    write_changed,
)
from megavit.training.incremental.head_rows import HeadInputs, cross_val_predict_rows, fit_head_rows, fit_shift
from megavit.training.incremental.new_images import NewImages, read_new_images
from megavit.training.incremental.outputs import Outputs, SplitOutputs, compute_outputs
from megavit.training.incremental.result import ClassAddition
from megavit.training.incremental.run_images import ADDED, read_data_recipe, read_run_images
from megavit.training.incremental.separability import SeparabilityCheck
from megavit.training.progress import Reporter
from megavit.training.setup.source import portable_name
from megavit.weights.bundle.bundle import SAMPLES


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
    former_images = read_run_images(predictor, data, reporter)
    former = compute_outputs(predictor, former_images, reporter)
    added = compute_outputs(predictor, new.parts, reporter)
    fitted = _fit(predictor, new, former, added)
    measured = measure_head(predictor, fitted.head, {split: former[split].plus(added[split]) for split in former})
    labels, count = former["test"].labels, len(former["test"])
    correct = former["test"].logits.argmax(dim=1) == labels
    still_correct = measured.outputs[:count].argmax(dim=1) == labels
    before = wilson_interval(int(correct.sum()), count)
    check = SeparabilityCheck(fitted.head, former, added, fitted.train_logits)
    classes = tuple(check.describe(label, new, len(predictor.labels)) for label in new.with_images)
    write_changed(
        predictor,
        target,
        fitted.head,
        measured,
        location=portable_name(former_images[0].images),
        data={ADDED: [*predictor.info.data.get(ADDED, []), *_records(folders, new, len(predictor.labels))]},
        rows=[*rows, *new.rows],
        examples=select_examples(new.parts),
    )
    return ClassAddition(
        folder=target,
        added=classes,
        metrics=measured.test,
        uncertainty=measured.uncertainty,
        before=before,
        after=wilson_interval(int(still_correct.sum()), count),
        p_value=mcnemar_test(correct, still_correct, "two-sided"),
        notes=tuple(new.notes),
    )


@dataclass(frozen=True)
class _Fitted:
    """A changed head, and the training images' logits (N, C) by rows that were not fitted on them, of any scale."""

    head: NewHead
    train_logits: Tensor


def _fit(predictor: Predictor, new: NewImages, former: Outputs, added: Outputs) -> _Fitted:
    """Return the head with rows for the new classes, and with other rows for classes that got images, if better.

    The latter are used if they lower the loss on the validation images.
    """
    train, val = (former[split].plus(added[split]) for split in ("train", "val"))
    known = len(predictor.labels)
    is_new = [label for label in new.with_images if label >= known]
    fitted = _fit_rows(predictor, new.labels, is_new, train, val)
    changed = len(new.with_images) - len(is_new)
    if changed in (0, known):  # of the rows of former classes, some must stay for the others to be fitted to them
        return fitted
    others = _fit_rows(predictor, new.labels, new.with_images, train, val)
    return min((fitted, others), key=lambda one: _loss(predictor, one.head, val))


def _fit_rows(
    predictor: Predictor, labels: tuple[str, ...], rows: list[int], train: SplitOutputs, val: SplitOutputs
) -> _Fitted:
    """Return the head with the rows of these classes fitted on training images, and their biases on validation images.

    Logits are divided by the temperature of the calibration, so that new and former classes are equally confident.
    """
    temperature, known = predictor.info.calibration.temperature, len(predictor.labels)
    kept = [label for label in range(known) if label not in rows]
    own = predictor.model.mlp_head.state_dict()
    weight, bias = (own[name].cpu() for name in ("weight", "bias"))
    weight = torch.cat([weight, weight.new_zeros(len(labels) - known, weight.shape[1])])
    bias = torch.cat([bias, bias.new_zeros(len(labels) - known)])
    logits = torch.full((len(train), len(labels)), -torch.inf)
    logits[:, kept] = train.logits[:, kept] / temperature
    if rows:
        counts = train.labels.bincount(minlength=len(labels)).float()
        # A new class counts no less than the mean of the others, however few images it has.
        share = torch.where(torch.arange(len(labels)) >= known, counts[kept].mean() / counts, 1.0).clamp(min=1.0)
        index = torch.full((len(labels),), -1)
        index[rows] = torch.arange(len(rows))

        def inputs(one: SplitOutputs) -> HeadInputs:
            others = (one.logits[:, kept] / temperature).logsumexp(dim=1)
            return HeadInputs(one.pooled, others, index[one.labels], one.labels, share[one.labels])

        fitted = fit_head_rows(inputs(train), len(rows))
        held_out_logits = cross_val_predict_rows(inputs(train), fitted)
        shift = fit_shift((inputs(train), held_out_logits), (inputs(val), fitted.logits(val.pooled)))
        logits[:, rows] = held_out_logits + shift
        weight[rows], bias[rows] = fitted.weight * temperature, (fitted.bias + shift) * temperature
    added = (len(labels) - known,) if len(labels) > known else ()
    return _Fitted(NewHead(labels, weight, bias, (*get_head_parts(predictor), *added)), logits)


def _loss(predictor: Predictor, head: NewHead, val: SplitOutputs) -> float:
    logits = val.with_head(head.weight, head.bias).logits / predictor.info.calibration.temperature
    return F.cross_entropy(logits, val.labels).item()


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
