"""Distill a student from what a teacher sees in crops, with checkpoints that a stopped training goes on from."""

import argparse
import copy
import json
import random
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.few_labels.backbone_targets import CELLS, CROPS, describe
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.config.recipe import OptimizerRecipe, ScheduleRecipe
from megavit.model.vit import MegaVit
from megavit.training.optim.optimizer import learning_rate, make_optimizers, update_ema
from megavit.weights.backbones.truncate import keep_layers
from megavit.weights.bundle.bundle import save_bundle
from megavit.weights.bundle.info import BundleInfo
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.pretrained import PretrainedModel

SCHEDULE = ScheduleRecipe(warmup=0.02, hold=0.6)
PROJECTOR_RATE = 1e-3
# Seconds between checkpoints, by the clock on the wall, as other work may leave little of the processor.
SAVE_SECONDS = 180.0
# Reference images in the bundle, and the header of its images, which it does not name.
REFERENCE, SAMPLES = 8, b'"name","label","split","digest"\n'
# Crops of the first file to measure on, which are not learned from.
HELD_OUT = 256


@dataclass
class Distillation:
    """A student, its moving average, the projection to the teacher's features, and how far the training is.

    Attributes:
        mean, std: (1 + CELLS², D) of the targets, of the class token and of the cells.
        recipe: settings of the optimizer.
        used: processor seconds.
        losses: losses since the last checkpoint.
    """

    student: MegaVit
    average: MegaVit
    projector: nn.Linear
    optimizers: list[torch.optim.Optimizer]
    recipe: OptimizerRecipe
    mean: Tensor
    std: Tensor
    step: int
    used: float
    losses: list[float]

    def loss(self, model: MegaVit, images: Tensor, targets: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Return one minus the cosine of standardized features: half for the pooled vector, half for the cells."""
        seen = self.projector(describe(model, images, preprocessing))
        distance = 1 - F.cosine_similarity(seen, (targets - self.mean) / self.std, dim=2)
        return (distance[:, 0].mean() + distance[:, 1:].mean()) / 2

    def update(self, images: Tensor, targets: Tensor, preprocessing: Preprocessing, total: float) -> None:
        """Take a step, at `used` of `total` processor seconds."""
        rate = learning_rate(min(1.0, self.used / total), 1.0, SCHEDULE)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["peak"]
        loss = self.loss(self.student, images, targets, preprocessing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        expected_steps = self.step * total / max(self.used, 1.0)
        update_ema(self.average, self.student, self.recipe.ema * expected_steps, self.step)
        self.losses.append(loss.item())

    def save(self, folder: Path, held_out: float) -> None:
        """Write a checkpoint, and a line of the log with the moving average's loss on the crops held out."""
        parts = {"student": self.student, "average": self.average, "projector": self.projector}
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        state |= {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}
        torch.save(state | {"step": self.step, "used": self.used}, folder / "checkpoint.part")
        (folder / "checkpoint.part").rename(folder / "checkpoint.pt")
        loss = sum(self.losses) / max(1, len(self.losses))
        record = {
            "step": self.step,
            "core_minutes": round(self.used / 60, 2),
            "loss": round(loss, 4),
            "held_out": held_out,
        }
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
        self.losses = []

    def load(self, folder: Path) -> None:
        """Go on from the checkpoint, if there is one."""
        if not (folder / "checkpoint.pt").exists():
            return
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        self.step, self.used = state["step"], state["used"]
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.projector.load_state_dict(state["projector"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)


def make_student(arguments: argparse.Namespace, teacher: PretrainedModel) -> MegaVit:
    """Return a model of a preset with random weights, or of the first layers of the teacher with their weights."""
    if not arguments.layers:
        return MegaVit.from_config(preset(arguments.preset, num_classes=0, image_size=arguments.image_size))
    first = keep_layers(teacher, arguments.layers)
    student = MegaVit.from_config(replace(first.config, image_size=arguments.image_size))
    initialize_from(student, first)
    return student


def begin(arguments: argparse.Namespace, teacher: PretrainedModel, files: list[Path]) -> Distillation:
    """Return a distillation before its first step, which standardizes targets by those of the first file."""
    torch.manual_seed(0)
    student = make_student(arguments, teacher)
    projector = nn.Linear(student.config.dim, teacher.config.dim)
    if arguments.layers:
        nn.init.eye_(projector.weight)
    recipe = OptimizerRecipe(learning_rate=arguments.learning_rate, layer_decay=arguments.layer_decay)
    optimizers = make_optimizers(student, recipe)
    optimizers.append(torch.optim.AdamW([{"params": list(projector.parameters()), "peak": PROJECTOR_RATE}]))
    first = load_file(files[0])["targets"].float()
    parts = [first[:, :1].flatten(0, 1), first[:, 1:].flatten(0, 1)]
    mean, std = (torch.stack(values) for values in zip(*((p.mean(0), p.std(0) + 1e-6) for p in parts), strict=True))
    which = torch.tensor([0] + [1] * CELLS**2)
    average = copy.deepcopy(student).eval()
    return Distillation(student, average, projector, optimizers, recipe, mean[which], std[which], 0, 0.0, [])


def train(arguments: argparse.Namespace, teacher: PretrainedModel) -> None:
    """Train the student for processor minutes, and write WORK/NAME/bundle."""
    files = sorted((arguments.work / "targets").glob("*.safetensors"))
    state, folder = begin(arguments, teacher, files), arguments.work / arguments.name
    folder.mkdir(parents=True, exist_ok=True)
    state.load(folder)
    height, width = state.student.config.image_hw
    assert teacher.preprocessing is not None
    preprocessing = replace(teacher.preprocessing, height=height, width=width)
    total, before, saved_at = arguments.core_minutes * 60, time.process_time() - state.used, time.monotonic()

    def save() -> None:
        with torch.no_grad():
            own = {name: tensor[:HELD_OUT] for name, tensor in load_file(files[0]).items()}
            loss = state.loss(state.average, own["images"], own["targets"].float(), preprocessing)
        state.save(folder, round(loss.item(), 4))
        write_bundle(folder / "bundle", state, preprocessing, teacher, files)

    while state.used < total:
        files = sorted((arguments.work / "targets").glob("*.safetensors"))
        chance = random.Random(state.step)
        chosen = [load_file(file) for file in chance.sample(files[1:], min(arguments.files, len(files) - 1))]
        images, targets = (torch.cat([file[name] for file in chosen]) for name in ("images", "targets"))
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(state.step))
        for indices in order.split(arguments.batch_size):
            batch, wanted = images[indices], targets[indices].float()
            if chance.random() < 0.5:  # what the teacher sees in a mirror is about the same, mirrored
                batch = batch.flip(3)
                cells = wanted[:, 1:].unflatten(1, (CELLS, CELLS)).flip(2).flatten(1, 2)
                wanted = torch.cat([wanted[:, :1], cells], dim=1)
            state.update(batch, wanted, preprocessing, total)
            state.used = time.process_time() - before
            if time.monotonic() - saved_at > SAVE_SECONDS:
                save()
                saved_at = time.monotonic()
            if state.used >= total:
                break
    save()


def write_bundle(
    folder: Path, state: Distillation, preprocessing: Preprocessing, teacher: PretrainedModel, files: list[Path]
) -> None:
    """Write the moving average as a bundle without a head."""
    config = state.average.config
    info = BundleInfo(
        model=config,
        labels=[],
        preprocessing=replace(preprocessing, patch_size=config.patch_size),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics={},
        data={
            "source": "random crops of pictures",
            "counts": {"train": len(files) * CROPS, "val": 0, "test": 0},
            "division": "all of them",
            "distillation": {
                "teacher": teacher.name,
                "teacher_license": teacher.origin.license,
                "core_minutes": round(state.used / 60, 1),
                "steps": state.step,
                "optimizer": asdict(state.recipe),
            },
        },
        recipe={},
    )
    reference = list(load_file(files[0])["images"][:REFERENCE])
    save_bundle(folder, state.average, info, reference=reference, samples=SAMPLES)
