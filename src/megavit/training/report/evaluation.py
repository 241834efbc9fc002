"""Evaluate a finished model: fit its calibration on the validation images, and measure it on the test images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.engine.engine import Engine, ModelOutput
from megavit.evaluation.metrics.dispatch import Metrics, compute_metrics
from megavit.evaluation.metrics.multilabel import fit_thresholds
from megavit.evaluation.probes.baselines import SmallImages, Split, shrink
from megavit.evaluation.uncertainty.measure import UncertaintyMetrics, compute_uncertainty
from megavit.evaluation.uncertainty.uncertainty import fit_uncertainty
from megavit.model.vit import MegaVit
from megavit.predict.postprocess.postprocess import Calibrator
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader, short_batch_size
from megavit.training.loop.build import make_eval_loader
from megavit.training.report.baselines import BaselineSummary, compare_with_baselines, small_side
from megavit.training.report.examples import select_ood_samples
from megavit.training.task import Task


@dataclass(frozen=True)
class EvalInputs:
    """The images that a finished model is evaluated on, as far as they have been read.

    Attributes:
        val_loader: the validation images.
        ood_loader: training images for the out-of-distribution score; None to read them.
        train_images: small copies of training images to fit simple baselines on; None for those of that score.
        embed: function that returns the inputs of the head for a loader's images; None to compute them.
    """

    val_loader: TrainLoader
    ood_loader: TrainLoader | None = None
    train_images: SmallImages | None = None
    embed: Callable[[TrainLoader], Tensor] | None = None


@dataclass(frozen=True)
class EvalResult:
    """The evaluation of a finished model: its calibration, calibrated test outputs, and metrics."""

    target: Target
    calibration: Calibration
    tensors: dict[str, Tensor]
    outputs: Tensor
    test: Metrics
    val: Metrics
    uncertainty: UncertaintyMetrics
    baselines: BaselineSummary | None


def evaluate_model(
    ctx: RunContext, model: MegaVit, task: Task, inputs: EvalInputs, test_loader: TrainLoader
) -> EvalResult:
    """Fit the calibration on the validation images, and evaluate model and calibration on the test images."""
    classes, val_loader = ctx.dataset.classes, inputs.val_loader
    ood_loader = inputs.ood_loader
    if ood_loader is None:
        ood_loader = make_eval_loader(ctx, task, select_ood_samples(ctx.dataset.in_split("train")))
    infer = _Inference(Engine(model, task.preprocessing), inputs.embed, small_side(task.preprocessing))
    (val, val_images), (test, test_images), (ood, ood_images) = map(infer, (val_loader, test_loader, ood_loader))
    calibration, tensors = fit_uncertainty(val, val_loader.labels, task.target, (ood.pooled, ood_loader.labels))
    target = task.target
    calibrator = Calibrator(calibration, tensors, target, len(classes))
    val_outputs, outputs = calibrator.outputs(val.logits), calibrator.outputs(test.logits)
    if target.kind == "multilabel":
        target = replace(target, thresholds=fit_thresholds(val_outputs, val_loader.labels))
    uncertainty = compute_uncertainty(calibrator, test, test_loader.labels)
    baselines = None
    if target.kind == "classification":
        images = Split(inputs.train_images or ood_images, val_images, test_images)
        baselines = compare_with_baselines(ctx.dataset, task, images, outputs)
    return EvalResult(
        target=target,
        calibration=replace(calibration, test_metrics=uncertainty.to_dict()),
        tensors=tensors,
        outputs=outputs,
        test=compute_metrics(outputs, test_loader.labels, classes, target),
        val=compute_metrics(val_outputs, val_loader.labels, classes, target),
        uncertainty=uncertainty,
        baselines=baselines,
    )


@dataclass(frozen=True)
class _Inference:
    """A function that returns the outputs for all images of a loader, in order, and small copies of the same images."""

    engine: Engine
    embed: Callable[[TrainLoader], Tensor] | None
    side: tuple[int, int]

    def __call__(self, loader: TrainLoader) -> tuple[ModelOutput, SmallImages]:
        model = self.engine.model
        pixels: list[Tensor] = []
        if self.embed is not None:
            pooled = self.embed(loader)
            device = next(model.parameters()).device
            with torch.no_grad():
                output = ModelOutput(pooled, model.mlp_head(pooled.to(device)).float().cpu())
            pixels = [shrink(images, self.side) for images in loader.sequential_batches()]
            return output, SmallImages(torch.cat(pixels), loader.labels)
        outputs: list[ModelOutput] = []
        for images in loader.sequential_batches(short_batch_size(model.config, next(model.parameters()).device)):
            outputs.append(self.engine(images))
            pixels.append(shrink(images, self.side))
        together = ModelOutput(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))
        return together, SmallImages(torch.cat(pixels), loader.labels)
