"""What is left of a run: its best weights as a bundle, measured on the test images, and a report."""

import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from megavit.check.quick import warnings_of
from megavit.config.files import dump_toml, to_dict
from megavit.config.vit import ViTConfig
from megavit.data.samples import LabelledImages
from megavit.evaluate.measure import AnyMetrics
from megavit.evaluate.trust import TrustMetrics
from megavit.explain.explanation import overlays
from megavit.runtime.device import device_name
from megavit.train.examples import examples, golden_pictures
from megavit.train.feed import Feed
from megavit.train.history import EpochRecord
from megavit.train.judge import judge
from megavit.train.ladder import Tuning
from megavit.train.loop import Task
from megavit.train.plan import SAMPLES
from megavit.train.report import DataSummary, Report, write_report
from megavit.train.state import TrainState
from megavit.train.watch import Watch
from megavit.weights.bundle import BundleInfo, library_versions, save_bundle

BUNDLE = "bundle"


@dataclass(frozen=True)
class Trained:
    """What a run left: its folder, its bundle and report in there, how it did on the test images, and its trust."""

    folder: Path
    bundle: Path
    report: Path
    metrics: AnyMetrics
    trust: TrustMetrics


def finish(
    out: Path,
    state: TrainState,
    task: Task,
    images: LabelledImages,
    validation: Feed,
    watch: Watch,
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
    testing = Feed(images, images.of("test"), task.preprocessing, task.recipe.run.workers, watch)
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
            "division": images.division,
            "counts": images.sizes(),
            "skipped": images.skipped_by_reason(),
        },
        recipe=to_dict(task.recipe),
        target=judged.target,
        trust=judged.trust,
        tuning=tuning.to_dict() if tuning else {},
    )
    samples = (out / SAMPLES).read_bytes()
    save_bundle(out / BUNDLE, model, info, golden_pictures(images), samples, judged.tensors)
    shown = examples(
        images, judged.answers, judged.target, lambda pictures: overlays(model, pictures, task.preprocessing)
    )
    report = Report(
        title=title_of(images),
        created=created,
        data=DataSummary(
            source=images.source,
            division=images.division,
            counts=images.counts(),
            images=images.sizes(),
            skipped=images.skipped_by_reason(),
            findings=warnings_of(images),
        ),
        model=describe_model(model.config, state),
        recipe_toml=dump_toml(task.recipe),
        environment=describe_environment(state, task),
        history=state.history,
        test=judged.test,
        val=judged.val,
        fitted=judged.trust,
        trust=judged.trusted,
        examples=shown,
        scores=(testing.labels.tolist(), judged.answers.tolist()) if images.target == "score" else None,
        tuning=tuning,
        bundle=str(out),
    )
    return Trained(out, out / BUNDLE, write_report(out, report), judged.test, judged.trusted)


def title_of(images: LabelledImages) -> str:
    match images.target:
        case "classes":
            return f"A classifier of {len(images.classes)} classes from {images.source}"
        case "labels":
            return f"A classifier of {len(images.classes)} labels, any number an image, from {images.source}"
        case "score":
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
    if (layout.procs or 1) > 1:
        rows.append(
            ("processes", f"{layout.procs}: {layout.replicate} copies × {layout.shard} shards × {layout.tensor} tensor")
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
