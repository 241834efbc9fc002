"""Finish a run: evaluate its best weights on the test images, and write the bundle and the report."""

import platform
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from megavit.config.serialization import dump_toml, to_dict
from megavit.data.dataset import LabeledImages
from megavit.data_check.quick_checks import data_warnings
from megavit.explain.explanation import make_overlays
from megavit.model.vit import MegaVit
from megavit.runtime.device import device_name
from megavit.training.context import RunContext
from megavit.training.history import EpochRecord, TuneSummary
from megavit.training.loop.build import make_eval_loader
from megavit.training.optim.distillation import drop_teacher_outputs
from megavit.training.optim.optimizer import EXTENSION_PEAK
from megavit.training.report.evaluation import EvalInputs, evaluate_model
from megavit.training.report.examples import Explanations, explanation_seconds, select_examples, select_reference_images
from megavit.training.report.report import DataSummary, Report, write_report
from megavit.training.report.result import Run
from megavit.training.run_dir import SAMPLES
from megavit.training.state import TrainState
from megavit.training.task import Task
from megavit.training.tracking.log import LOG, append_line
from megavit.weights.bundle.bundle import save_bundle
from megavit.weights.bundle.info import BundleInfo, library_versions

BUNDLE = "bundle"


def finalize(
    ctx: RunContext,
    state: TrainState,
    task: Task,
    inputs: EvalInputs,
    tuning: TuneSummary | None = None,
) -> Run:
    """Write the bundle and the report of a run that has completed its steps, with the results of fine-tuning if any."""
    dataset, run_dir, model = ctx.dataset, ctx.run_dir, state.ema_model
    model.load_state_dict(state.best)
    if task.teacher is not None:
        model = drop_teacher_outputs(model, task.num_classes)
    ctx.reporter.say("evaluating on the test images")
    test_loader = make_eval_loader(ctx, task, dataset.in_split("test"))
    result = evaluate_model(ctx, model, task, inputs, test_loader)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    info = BundleInfo(
        model=model.config,
        labels=list(dataset.classes),
        preprocessing=task.preprocessing,
        created=created,
        metrics=result.test.to_dict(),
        data={
            "source": dataset.source,
            "fingerprint": dataset.fingerprint(),
            "division": dataset.split_description,
            "counts": dataset.split_sizes(),
            "skipped": dataset.skipped_by_reason(),
            **({"teacher": task.teacher.record} if task.teacher else {}),
        },
        recipe=to_dict(task.recipe),
        target=result.target,
        calibration=result.calibration,
        tuning=tuning.to_dict() if tuning else {},
    )
    samples = (run_dir / SAMPLES).read_bytes()
    save_bundle(
        run_dir / BUNDLE,
        model,
        info,
        reference=select_reference_images(dataset),
        samples=samples,
        calibration_tensors=result.tensors,
    )
    run = Run(
        folder=run_dir,
        bundle=run_dir / BUNDLE,
        report=None,
        metrics=result.test,
        uncertainty=result.uncertainty,
        baselines=result.baselines,
        pseudo_labels=tuning.pseudo_labels if tuning else None,
    )
    append_line(run_dir / LOG, "test", _last_line(state) | {"metrics": result.test.to_dict()})
    if not ctx.write_report:
        return run
    report = Report(
        title=_make_title(dataset),
        created=created,
        data=DataSummary(
            source=dataset.source,
            division=dataset.split_description,
            counts=dataset.class_counts(),
            images=dataset.split_sizes(),
            skipped=dataset.skipped_by_reason(),
            findings=data_warnings(dataset),
        ),
        model=_describe_model(model),
        recipe_toml=dump_toml(task.recipe),
        environment=describe_environment(state, task),
        history=state.history,
        test=result.test,
        val=result.val,
        calibration=result.calibration,
        uncertainty=result.uncertainty,
        examples=select_examples(
            dataset,
            result.outputs,
            result.target,
            Explanations(lambda images: make_overlays(model, images, task.preprocessing), explanation_seconds(task)),
        ),
        regression=(test_loader.labels.tolist(), result.outputs.tolist()) if dataset.target == "regression" else None,
        tuning=tuning,
        baselines=result.baselines,
        bundle=str(run_dir),
    )
    return replace(run, report=write_report(run_dir, report))


def _last_line(state: TrainState) -> dict[str, Any]:
    epoch = state.history[-1].epoch if state.history else 0
    return {"step": state.step, "epoch": epoch, "seconds": state.seconds}


def _make_title(dataset: LabeledImages) -> str:
    match dataset.target:
        case "classification":
            return f"A classifier of {len(dataset.classes)} classes from {dataset.source}"
        case "multilabel":
            return f"A multilabel classifier of {len(dataset.classes)} labels from {dataset.source}"
        case "regression":
            return f"A regression model of the scores from {dataset.source}"


def _describe_model(model: MegaVit) -> list[tuple[str, str]]:
    config = model.config
    (height, width), (patch_height, patch_width) = config.image_hw, config.patch_hw
    sizes = ("num_classes", "dim", "depth", "heads", "dim_head", "mlp_dim", "pool", "channels", "dropout")
    return [
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
        ("image size", f"{height} × {width}"),
        ("patch size", f"{patch_height} × {patch_width}"),
        *((name.replace("_", " "), str(getattr(config, name))) for name in sizes),
        *((name.replace("_", " "), str(value)) for name, value in asdict(config.design).items()),
    ]


def describe_environment(state: TrainState, task: Task) -> list[tuple[str, str]]:
    rows = [
        ("device", device_name(state.device)),
        ("system", platform.platform()),
        *library_versions().items(),
        ("precision", str(task.dtype).removeprefix("torch.")),
    ]
    if task.teacher is not None:
        record = task.teacher.record
        rows.append(("teacher", f"{record['name']}: {record['imitated']} of {record['views']} views of an image"))
    layout = task.recipe.parallel
    if (layout.nproc or 1) > 1:
        rows.append(
            ("processes", f"{layout.nproc}: {layout.replicate} copies × {layout.fsdp} shards × {layout.tp} tensor")
        )
    if state.best_epoch is None:
        return rows  # not trained by gradient
    best = state.history[state.best_epoch]
    return [
        *rows,
        ("time to the last step", f"{state.seconds:.0f} s"),
        ("steps", f"{state.step:,}"),
        ("skipped steps", str(state.skipped)),
        *([("rollbacks", str(state.rollbacks))] if state.rollbacks else []),
        *([("extended", _describe_extensions(state))] if state.extended_at else []),
        *([("stopped early", _describe_early_stop(state))] if state.stopped_early else []),
        *_describe_max_logits(state.history),
        ("weights used", f"of epoch {best.epoch:g} of {state.history[-1].epoch:g}, averaged"),
    ]


def _describe_extensions(state: TrainState) -> str:
    epochs = {record.step: f"epoch {record.epoch:g}" for record in state.history}
    places = " and ".join(f"{epochs[step]} (step {step:,})" for step in state.extended_at)
    return f"after {places}; the learning rate rose again to {EXTENSION_PEAK:.0%} of its peak, and decayed once more"


def _describe_early_stop(state: TrainState) -> str:
    metric = state.history[-1].metric
    return f"validation {metric} had not become better in {state.epochs_since_best():g} epochs"


def _describe_max_logits(history: list[EpochRecord]) -> list[tuple[str, str]]:
    logits = {
        "in attention": [record.attention_logit for record in history if record.attention_logit is not None],
        "of the head": [record.head_logit for record in history if record.head_logit is not None],
    }
    described = ", ".join(f"{max(values):,.3g} {where}" for where, values in logits.items() if values)
    return [("largest logits", described)] if described else []
