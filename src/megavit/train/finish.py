"""What is left of a run: its best weights as a bundle, measured on the test images, and a report."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from megavit.config.files import dump_toml, to_dict
from megavit.config.vit import ViTConfig
from megavit.data.pictures import resize
from megavit.data.samples import LabelledImages, Sample
from megavit.evaluate.metrics import Metrics, measure
from megavit.model.vit import MegaVit
from megavit.predict.logits import logits_of
from megavit.runtime.device import device_name
from megavit.train.feed import Feed
from megavit.train.figures import Example
from megavit.train.loop import Task
from megavit.train.plan import SAMPLES
from megavit.train.report import DataSummary, Report, write_report
from megavit.train.state import TrainState
from megavit.train.watch import Watch
from megavit.weights.bundle import BundleInfo, library_versions, save_bundle

BUNDLE = "bundle"
BATCH = 64
GOLDEN_PICTURES = 8
GOLDEN_SIDE = 512
EXAMPLES = 12


@dataclass(frozen=True)
class Trained:
    """What a run left: its folder, its bundle and report in there, and how it did on the test images."""

    folder: Path
    bundle: Path
    report: Path
    metrics: Metrics


def finish(out: Path, state: TrainState, task: Task, images: LabelledImages, validation: Feed, watch: Watch) -> Trained:
    """Write bundle and report of a run that has done its steps; `validation` feeds the validation images."""
    model = state.average
    model.load_state_dict(state.best)
    watch.say("measuring on the test images")
    size = (task.preprocessing.channels, task.preprocessing.height, task.preprocessing.width)
    feed = Feed(images, images.of("test"), size, task.recipe.run.workers, watch)
    test = answers(model, task, feed)
    metrics = measure(test, feed.labels, images.classes)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    counts = {split: sum(classes.values()) for split, classes in images.counts().items()}
    info = BundleInfo(
        model=model.config,
        labels=list(images.classes),
        preprocessing=task.preprocessing,
        created=created,
        metrics=metrics.to_dict(),
        data={
            "source": images.source,
            "fingerprint": images.fingerprint(),
            "division": images.division,
            "counts": counts,
            "skipped": images.skipped_by_reason(),
        },
        recipe=to_dict(task.recipe),
    )
    save_bundle(out / BUNDLE, model, info, golden_pictures(images), out / SAMPLES)
    report = Report(
        title=f"A classifier of {len(images.classes)} classes from {images.source}",
        created=created,
        data=DataSummary(
            source=images.source,
            division=images.division,
            counts=images.counts(),
            skipped=images.skipped_by_reason(),
        ),
        model=describe_model(model.config, state),
        recipe_toml=dump_toml(task.recipe),
        environment=describe_environment(state, task),
        history=state.history,
        test=metrics,
        val=measure(answers(model, task, validation), validation.labels, images.classes),
        examples=examples(images, test),
        bundle=str(out),
    )
    return Trained(out, out / BUNDLE, write_report(out, report), metrics)


def answers(model: MegaVit, task: Task, feed: Feed) -> Tensor:
    """(N, classes) probabilities of the images of `feed`, in float32, as the bundle will give them."""
    return torch.cat([logits.softmax(dim=1) for logits in logits_of(model, feed.in_turn(BATCH), task.preprocessing)])


def labels_of(samples: Sequence[Sample]) -> Tensor:
    return torch.tensor([sample.label for sample in samples])


def golden_pictures(images: LabelledImages) -> list[Tensor]:
    """A few test images, spread over the classes, uint8 (C, H, W), the large ones made smaller."""
    by_class: dict[int, Sample] = {}
    for sample in images.of("test"):
        by_class.setdefault(sample.label, sample)
    chosen = [by_class[label] for label in sorted(by_class)][:GOLDEN_PICTURES]
    return [shrink(images.pixels(sample), GOLDEN_SIDE) for sample in chosen]


def shrink(picture: Tensor, side: int) -> Tensor:
    """The picture with its longer side at most `side` pixels."""
    height, width = picture.shape[1:]
    scale = min(1.0, side / max(height, width))
    return resize(picture, max(1, round(height * scale)), max(1, round(width * scale)))


def visible(picture: Tensor) -> Tensor:
    """A picture of any number of channels as a person can see it: grey, or the first three as RGB."""
    return picture[:3] if picture.shape[0] >= 3 else picture[:1]


def examples(images: LabelledImages, probabilities: Tensor) -> list[Example]:
    """The most confident mistakes, and right answers spread over the test images."""
    samples = images.of("test")
    confidence, predicted = probabilities.max(dim=1)
    right = predicted == labels_of(samples)
    wrong_places = [i for i in confidence.argsort(descending=True).tolist() if not right[i]][:EXAMPLES]
    right_places = torch.nonzero(right).flatten().tolist()
    right_places = right_places[:: max(1, len(right_places) // EXAMPLES)][:EXAMPLES]
    found = []
    for i in wrong_places + right_places:
        values, indices = probabilities[i].topk(min(3, len(images.classes)))
        top = [(images.classes[k], p) for k, p in zip(indices.tolist(), values.tolist(), strict=True)]
        pixels = visible(shrink(images.pixels(samples[i], (GOLDEN_SIDE, GOLDEN_SIDE)), GOLDEN_SIDE))
        picture = pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)
        truth = images.classes[samples[i].label]
        found.append(Example(image=picture.numpy(), name=samples[i].name, truth=truth, top=top))
    return found


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
    best = state.history[state.best_epoch or 0]
    return [
        ("device", device_name(next(state.model.parameters()).device)),
        ("system", platform.platform()),
        *((name, number) for name, number in library_versions().items()),
        ("precision", str(task.dtype).removeprefix("torch.")),
        ("training time", f"{state.seconds:.0f} s"),
        ("steps", f"{state.step:,}"),
        ("skipped steps", str(state.skipped)),
        ("weights kept", f"of epoch {best.epoch} of {len(state.history)}, averaged"),
    ]
