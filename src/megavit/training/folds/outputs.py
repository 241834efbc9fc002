"""Predict the images of each fold with the model that was not trained on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from megavit.config.target import Target, join_labels
from megavit.data.dataset import TARGET_COLUMNS, LabeledImages, Sample
from megavit.data.scan import NamedProgress, Progress
from megavit.data.targets import name_target, target_tensor
from megavit.engine.engine import ModelOutput
from megavit.evaluation.inference import run_inference
from megavit.evaluation.metrics.dispatch import Metrics, compute_metrics
from megavit.evaluation.uncertainty.measure import HeldOutput
from megavit.predict.predictor import Predictor, load
from megavit.runtime.csv_files import csv_text

BATCH_SIZE = 64


@dataclass(frozen=True)
class FoldOutputs:
    """The outputs of a fold's model for its test images `samples`, and for its validation images."""

    fold: int
    samples: tuple[Sample, ...]
    test: HeldOutput
    val_samples: tuple[Sample, ...]
    val: HeldOutput

    @property
    def target(self) -> Target:
        return self.test.calibrator.target


def predict_fold(fold: int, run_dir: Path, dataset: LabeledImages, device: str, progress: NamedProgress) -> FoldOutputs:
    """Return the outputs of the model in `run_dir` for the test and validation images of its fold."""
    samples, val_samples = dataset.in_split("test"), dataset.in_split("val")
    what = f"predicting the images of fold {fold}"
    predictor = load(run_dir, device=device)
    both = predict_samples(
        predictor, dataset, (*samples, *val_samples), lambda done, total: progress(what, done, total)
    )
    test, val = (
        HeldOutput(both.calibrator, ModelOutput(*(values[part] for values in both.output)), both.targets[part])
        for part in (slice(len(samples)), slice(len(samples), None))
    )
    return FoldOutputs(fold, samples, test, val_samples, val)


def predict_samples(
    predictor: Predictor, dataset: LabeledImages, samples: Sequence[Sample], progress: Progress
) -> HeldOutput:
    """Return a model's output for samples, which have the class indices of the model."""
    output = run_inference(predictor, dataset, samples, BATCH_SIZE, progress)
    targets = target_tensor(samples, dataset.target, len(dataset.classes))
    return HeldOutput(predictor.calibrator, output, targets)


def pool_target(targets: Sequence[Target]) -> Target:
    """Return a target with the mean thresholds, or mean statistics of the scores, of several."""
    first, count = targets[0], len(targets)
    thresholds = [sum(values) / count for values in zip(*(target.thresholds for target in targets), strict=True)]
    if first.kind != "regression":
        return replace(first, thresholds=thresholds)
    medians = [target.median for target in targets if target.median is not None]
    return replace(
        first,
        mean=sum(target.mean for target in targets) / count,
        std=sum(target.std for target in targets) / count,
        median=sum(medians) / count if len(medians) == count else None,
    )


def compute_pooled_metrics(outputs: Sequence[FoldOutputs], classes: Sequence[str]) -> Metrics:
    """Return the metrics of all folds' test images together."""
    return compute_metrics(
        torch.cat([fold.test.predicted for fold in outputs]),
        torch.cat([fold.test.targets for fold in outputs]),
        classes,
        pool_target([fold.target for fold in outputs]),
    )


def write_predictions(outputs: Sequence[FoldOutputs], dataset: LabeledImages) -> bytes:
    """Return a CSV of each image's name, target, fold, and prediction by the model that was not trained on it."""
    kind = dataset.target
    columns = [
        "name",
        TARGET_COLUMNS[kind],
        "fold",
        "prediction",
        *(["probability"] if kind == "classification" else []),
    ]
    rows = []
    for fold in outputs:
        for sample, output in zip(fold.samples, fold.test.predicted, strict=True):
            truth = name_target(sample.target, dataset.classes)
            row = [sample.name, join_labels(truth) if isinstance(truth, tuple) else str(truth), str(fold.fold)]
            rows.append((sample.name, [*row, *_describe(output, fold.target, dataset.classes)]))
    return csv_text(columns, (row for _, row in sorted(rows)))


def _describe(output: Tensor, target: Target, classes: Sequence[str]) -> list[str]:
    match target.kind:
        case "classification":
            probability, label = output.max(dim=0)
            return [classes[int(label)], f"{probability.item():.6f}"]
        case "multilabel":
            assigned = output.double() >= torch.tensor(target.thresholds, dtype=torch.float64)
            return [join_labels(classes[label] for label in torch.nonzero(assigned).flatten().tolist())]
        case "regression":
            return [f"{output.item():.6g}"]
