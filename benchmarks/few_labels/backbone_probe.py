"""Compare features by a logistic regression on few images a class, and a training from scratch on the same images."""

import random
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from benchmarks.few_labels.backbone_targets import BATCH, read_picture
from benchmarks.learning.ours import CPU, ENDLESS, step_at
from benchmarks.learning.results import RESULTS, add_run, is_measured
from benchmarks.photos.photo_peers import ignore_progress
from megavit.config.presets import preset
from megavit.config.recipe import DataRecipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.data.load import load_data
from megavit.distributed.context import ParallelContext
from megavit.engine.engine import Engine
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_logits
from megavit.training.context import RunContext
from megavit.training.distillation.teacher import choose_teacher_size
from megavit.training.loop.build import (
    adapt_preprocessing,
    build_training,
    make_eval_loader,
    make_preprocessing,
    make_train_loader,
)
from megavit.training.progress import NullReporter
from megavit.training.setup.sizes import resolve_sizes
from megavit.weights.backbones.fetch import load_source
from megavit.weights.pretrained.initialize import initialize_from

FILE = RESULTS / "shipped_backbone.json"
RANDOM, SCRATCH = "random:", "scratch:"
# Images of a class that labels are drawn from, or as many as get labels if these are more; and those to measure on,
# without a folder for them a share of all.
POOL, MAX_TEST, TEST_SHARE = 120, 60, 0.25
# Inverse strength of the regression's penalty, for standardized features.
INVERSE_PENALTY = 0.01
# The model from scratch: the smallest that a time budget chooses from; and its recipe for about so many passes or more.
MODEL = {"pretrained": "scratch", "preset": "hybrid-nano", "patch_size": 8, "image_size": 48}
IMAGES_PER_SECOND, CUTMIX_PASSES = 290, 40


@dataclass(frozen=True)
class Division:
    """The images, each a path and the index of its class, of which some get labels, and those to measure on."""

    classes: list[str]
    pool: list[tuple[Path, int]]
    test: list[tuple[Path, int]]

    def draw(self, labels: int, seed: int) -> list[int]:
        """Return the indices in `pool` of so many images of each class, or of all where there are fewer."""
        chance = random.Random(seed)
        by_class: dict[int, list[int]] = {}
        for index, (_, label) in enumerate(self.pool):
            by_class.setdefault(label, []).append(index)
        return [i for _, own in sorted(by_class.items()) for i in chance.sample(own, min(labels, len(own)))]


def divide(folder: Path, largest: int = POOL) -> Division:
    """Return the division of FOLDER/CLASS/IMAGE, or of FOLDER/train and FOLDER/test; the latter is the same for all."""
    chance, pool, test = random.Random(0), [], []
    root = folder / "train" if (folder / "train").is_dir() else folder
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    for label, name in enumerate(classes):
        own = sorted((root / name).iterdir())
        chance.shuffle(own)
        if root == folder:
            count = round(TEST_SHARE * len(own))
            held_out, own = own[:count], own[count:]
        else:
            held_out = sorted((folder / "test" / name).glob("*"))
            chance.shuffle(held_out)
        pool += [(path, label) for path in own[:largest]]
        test += [(path, label) for path in held_out[:MAX_TEST]]
    return Division(classes, pool, test)


def load_engine(contender: str) -> Engine:
    """Return an engine of a backbone, a bundle, or, for "random:PRESET", of random weights."""
    if contender.startswith(RANDOM):
        torch.manual_seed(0)
        config = preset(contender.removeprefix(RANDOM), num_classes=0)
        return Engine(MegaVit.from_config(config).eval(), make_preprocessing(config))
    pretrained = load_source(contender, print)
    config = replace(pretrained.config, num_classes=0, image_size=choose_teacher_size(pretrained))
    model = MegaVit.from_config(config)
    initialize_from(model, pretrained)
    return Engine(model.eval(), adapt_preprocessing(config, pretrained), "bfloat16")


def embed(engine: Engine, images: list[tuple[Path, int]]) -> tuple[Tensor, float]:
    """Return the pooled features (N, D) of images, resized to the engine's size, and its processor seconds an image."""
    size, features, seconds = (engine.preprocessing.width, engine.preprocessing.height), [], 0.0
    for start in range(0, len(images), BATCH):
        pictures = [read_picture(path, 4 * max(size)) for path, _ in images[start : start + BATCH]]
        pixels = torch.stack([pil_to_tensor(picture.resize(size, Image.Resampling.BICUBIC)) for picture in pictures])
        began = time.process_time()
        features.append(engine(pixels).pooled)
        seconds += time.process_time() - began
    return torch.cat(features), seconds / len(images)


def probe(features: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """Return the classes of other features by a logistic regression on features (N, D) and their labels (N,)."""
    mean, std = features.mean(0), features.std(0) + 1e-6
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=100)
    model.fit(((features - mean) / std).numpy(), labels.numpy())
    return torch.from_numpy(model.predict(((others - mean) / std).numpy()))


def train_from_scratch(division: Division, chosen: list[int], seed: int, seconds: float) -> float:
    """Return the accuracy of a training from scratch in so many processor seconds, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        known = [division.pool[index] for index in chosen]
        for split, images in (("train", known), ("val", division.test), ("test", known)):
            for number, (path, label) in enumerate(images):
                link = Path(folder) / split / division.classes[label] / f"{number}-{path.name}"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.absolute())
        dataset = load_data(folder, DataRecipe(), ignore_progress, required_splits=("val", "test"), verify="none")
        passes = seconds * IMAGES_PER_SECOND / len(known)
        run = {"precision": "bfloat16", "batch_size": 64 if len(known) > 400 else 32, "seed": seed, "device": "cpu"}
        changes = {"model": MODEL, "run": run, "augment": {"cutmix": 1.0 if passes >= CUTMIX_PASSES else 0.0}}
        recipe = resolve_sizes(merge(get_recipe("photos"), changes, "the recipe"), dataset, CPU)
        ctx = RunContext(Path(folder), dataset, CPU, ParallelContext(), NullReporter())
        state, task = build_training(ctx, recipe)
        batches = make_train_loader(ctx, task).train_batches(task, 0, ENDLESS)
        began = time.process_time()
        while (progress := (time.process_time() - began) / seconds) < 1:
            step_at(progress, state, task, next(batches))
        loader = make_eval_loader(ctx, task, dataset.in_split("val"))
        model, preprocessing = state.ema_model, task.preprocessing
        logits = loader.map(lambda images: compute_logits(model, images, preprocessing, task.dtype), ctx.parallel)
        return (logits.argmax(dim=1) == loader.labels).double().mean().item()


def compare_contenders(
    contenders: list[str], folders: list[Path], labels: list[int], seeds: list[int], out: Path
) -> None:
    """Write and print the accuracy of each contender by folder, images a class and seed; what is there stays."""
    for folder in folders:
        division = divide(folder, max(POOL, *labels))
        truth = torch.tensor([label for _, label in division.test])
        pool = torch.tensor([label for _, label in division.pool])
        for contender in contenders:
            features: tuple[Tensor, Tensor] | None = None
            seconds: float | None = None
            for count in labels:
                for seed in seeds:
                    about: dict[str, Any] = {"data": folder.name, "labels": count, "seed": seed, "contender": contender}
                    if is_measured(out, about):
                        continue
                    chosen = division.draw(count, seed)
                    if contender.startswith(SCRATCH):
                        budget = float(contender.removeprefix(SCRATCH))
                        accuracy = train_from_scratch(division, chosen, seed, budget)
                    else:
                        if features is None:
                            engine = load_engine(contender)
                            known, seconds = embed(engine, division.pool)
                            features = known, embed(engine, division.test)[0]
                        found = probe(features[0][chosen], pool[chosen], features[1])
                        accuracy = (found == truth).double().mean().item()
                    record = about | {"accuracy": round(accuracy, 4), "images": len(chosen), "test": len(truth)}
                    record |= {} if seconds is None else {"milliseconds": round(1000 * seconds, 2)}
                    add_run(out, record)
