"""What is left of a run: its best weights as a bundle, measured on the test images, and a report."""

import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from megavit.check.quick_checks import data_warnings
from megavit.config.calibration import Calibration
from megavit.config.serialization import dump_toml, to_dict
from megavit.config.target import Target
from megavit.config.vit import ViTConfig
from megavit.data.dataset import LabeledImages
from megavit.engine.engine import Engine, ModelOutput
from megavit.evaluate.metrics.dispatch import Metrics, compute_metrics
from megavit.evaluate.metrics.multilabel import fit_thresholds
from megavit.evaluate.uncertainty.uncertainty import UncertaintyMetrics, compute_uncertainty, fit_uncertainty
from megavit.explain.explanation import make_overlays
from megavit.model.vit import MegaVit
from megavit.predict.postprocess.postprocess import Calibrator
from megavit.runtime.device import device_name
from megavit.train.data import TrainLoader
from megavit.train.finetune.progressive import Tuning
from megavit.train.history import EpochRecord
from megavit.train.loop.build import compared, final_pass
from megavit.train.loop.loop import Task
from megavit.train.progress import Reporter
from megavit.train.report.examples import examples, reference_images
from megavit.train.report.report import DataSummary, Report, write_report
from megavit.train.run_dir import SAMPLES
from megavit.train.state import TrainState
from megavit.weights.bundle.bundle import BundleInfo, library_versions, save_bundle


@dataclass(frozen=True)
class Judged:
    """What came of it.

    Attributes:
        target: with its thresholds, where it has any.
        trust: what was fitted on the validation images, with what came of it on the test images.
        tensors: of `trust`.
        answers: for the test images, calibrated.
        test, val: metrics of the test images and of the validation images.
        trusted: how far the answers for the test images can be trusted.
    """

    target: Target
    trust: Calibration
    tensors: dict[str, Tensor]
    answers: Tensor
    test: Metrics
    val: Metrics
    trusted: UncertaintyMetrics


def judge(
    model: MegaVit, task: Task, images: LabeledImages, validation: TrainLoader, testing: TrainLoader, watch: Reporter
) -> Judged:
    """Fit on the validation images what makes the answers trustworthy, and measure them on the test images.

    Args:
        validation, testing: feed these images.
    """
    engine = Engine(model, task.preprocessing)
    learning = TrainLoader(
        images, compared(images.in_split("train")), task.preprocessing, task.recipe.run.workers, watch
    )
    val, test, learned = (see(engine, feed) for feed in (validation, testing, learning))
    trust, tensors = fit_uncertainty(val, validation.labels, task.target, (learned.pooled, learning.labels))
    target = task.target
    trusted = Calibrator(trust, tensors, target, len(images.classes))
    if target.kind == "multilabel":
        target = replace(target, thresholds=fit_thresholds(trusted.outputs(val.logits), validation.labels))
    answers = trusted.outputs(test.logits)
    measured = compute_uncertainty(trusted, test, testing.labels)
    return Judged(
        target=target,
        trust=replace(trust, test_metrics=measured.to_dict()),
        tensors=tensors,
        answers=answers,
        test=compute_metrics(answers, testing.labels, images.classes, target),
        val=compute_metrics(trusted.outputs(val.logits), validation.labels, images.classes, target),
        trusted=measured,
    )


def see(engine: Engine, feed: TrainLoader) -> ModelOutput:
    """What the model sees in the images of `feed`, in float32, as the bundle will."""
    return ModelOutput(*(torch.cat(parts) for parts in zip(*final_pass(engine, feed), strict=True)))


BUNDLE = "bundle"


@dataclass(frozen=True)
class Trained:
    """What a run left: its folder, its bundle and report in there, how it did on the test images, and its trust."""

    folder: Path
    bundle: Path
    report: Path
    metrics: Metrics
    trust: UncertaintyMetrics


def finish(
    out: Path,
    state: TrainState,
    task: Task,
    images: LabeledImages,
    validation: TrainLoader,
    watch: Reporter,
    tuning: Tuning | None = None,
) -> Trained:
    """Write bundle and report of a run that has done its steps.

    Args:
        validation: feeds the validation images.
        tuning: what came of a run that began with weights trained before.
    """
    model = state.average
    model.load_state_dict(state.best)
    watch.say("measuring on the test images")
    testing = TrainLoader(images, images.in_split("test"), task.preprocessing, task.recipe.run.workers, watch)
    judged = judge(model, task, images, validation, testing, watch)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    info = BundleInfo(
        model=model.config,
        labels=list(images.classes),
        preprocessing=task.preprocessing,
        created=created,
        metrics=judged.test.to_dict(),
        data={
            "source": images.source,
            "fingerprint": images.fingerprint(),
            "division": images.split_description,
            "counts": images.split_sizes(),
            "skipped": images.skipped_by_reason(),
        },
        recipe=to_dict(task.recipe),
        target=judged.target,
        calibration=judged.trust,
        tuning=tuning.to_dict() if tuning else {},
    )
    samples = (out / SAMPLES).read_bytes()
    save_bundle(out / BUNDLE, model, info, reference_images(images), samples, judged.tensors)
    shown = examples(
        images, judged.answers, judged.target, lambda pictures: make_overlays(model, pictures, task.preprocessing)
    )
    report = Report(
        title=title_of(images),
        created=created,
        data=DataSummary(
            source=images.source,
            division=images.split_description,
            counts=images.class_counts(),
            images=images.split_sizes(),
            skipped=images.skipped_by_reason(),
            findings=data_warnings(images),
        ),
        model=describe_model(model.config, state),
        recipe_toml=dump_toml(task.recipe),
        environment=describe_environment(state, task),
        history=state.history,
        test=judged.test,
        val=judged.val,
        calibration=judged.trust,
        uncertainty=judged.trusted,
        examples=shown,
        scores=(testing.labels.tolist(), judged.answers.tolist()) if images.target == "regression" else None,
        tuning=tuning,
        bundle=str(out),
    )
    return Trained(out, out / BUNDLE, write_report(out, report), judged.test, judged.trusted)


def title_of(images: LabeledImages) -> str:
    match images.target:
        case "classification":
            return f"A classifier of {len(images.classes)} classes from {images.source}"
        case "multilabel":
            return f"A classifier of {len(images.classes)} labels, any number an image, from {images.source}"
        case "regression":
            return f"A model of the scores from {images.source}"


def describe_model(config: ViTConfig, state: TrainState) -> list[tuple[str, str]]:
    (height, width), (patch_height, patch_width) = config.image_hw, config.patch_hw
    sizes = ("num_classes", "dim", "depth", "heads", "dim_head", "mlp_dim", "pool", "channels", "dropout")
    return [
        ("parameters", f"{sum(p.numel() for p in state.model.parameters()):,}"),
        ("image size", f"{height} × {width}"),
        ("patch size", f"{patch_height} × {patch_width}"),
        *((name.replace("_", " "), str(getattr(config, name))) for name in sizes),
        *((name.replace("_", " "), str(part)) for name, part in asdict(config.design).items()),
    ]


def describe_environment(state: TrainState, task: Task) -> list[tuple[str, str]]:
    rows = [
        ("device", device_name(next(state.model.parameters()).device)),
        ("system", platform.platform()),
        *((name, number) for name, number in library_versions().items()),
        ("precision", str(task.dtype).removeprefix("torch.")),
    ]
    layout = task.recipe.parallel
    if (layout.nproc or 1) > 1:
        rows.append(
            ("processes", f"{layout.nproc}: {layout.replicate} copies × {layout.fsdp} shards × {layout.tp} tensor")
        )
    if state.best_epoch is None:
        return rows  # of what was not trained by steps
    best = state.history[state.best_epoch]
    return [
        *rows,
        ("time to the last step", f"{state.seconds:.0f} s"),
        ("steps", f"{state.step:,}"),
        ("skipped steps", str(state.skipped)),
        *([("returns to a checkpoint", str(state.rollbacks))] if state.rollbacks else []),
        *_largest_logits(state.history),
        ("weights kept", f"of epoch {best.epoch:g} of {state.history[-1].epoch:g}, averaged"),
    ]


def _largest_logits(history: list[EpochRecord]) -> list[tuple[str, str]]:
    """The run's largest, by which too high a learning rate can be told."""
    found = {
        "in attention": [one.attention_logit for one in history if one.attention_logit is not None],
        "of the head": [one.head_logit for one in history if one.head_logit is not None],
    }
    told = ", ".join(f"{max(logits):,.3g} {where}" for where, logits in found.items() if logits)
    return [("largest logits", told)] if told else []
