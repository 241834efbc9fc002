"""Compute a teacher's outputs for the training images once, and keep them so that a stopped run goes on from them.

RUN/teacher/KEY/   the outputs in `megavit.predict.embedding_files.EmbeddingFiles`, by view and index of an image
"""

import hashlib
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from megavit.config.recipe import AugmentRecipe
from megavit.data.augment import augment, draw_affine_maps
from megavit.data.image_dataset import Images
from megavit.data.targets import target_tensor
from megavit.predict.embedding_files import EmbeddingFiles
from megavit.runtime.seeds import seed_all
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader, short_batch_size
from megavit.training.distillation.teacher import Teacher
from megavit.training.loop.build import make_canvas
from megavit.training.optim.distillation import TeacherTargets, standardize
from megavit.training.task import Task

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
# Largest time between two files.
WRITE_SECONDS = 3.0


@dataclass
class TeacherOutputs:
    """The outputs of a teacher by view and index of an image, in files.

    Attributes:
        rows: features, and logits if it knows the classes, (D [+ classes],) by "VIEW INDEX".
        elapsed: time of the run when the last row was written before a stop.
    """

    files: EmbeddingFiles
    rows: dict[str, Tensor] = field(default_factory=dict)
    elapsed: float = 0.0

    def write(self, rows: dict[str, Tensor], elapsed: float) -> None:
        """Write new rows, `elapsed` seconds after the run began, or raise OutputError."""
        if rows:
            self.files.write(rows, elapsed=elapsed)
            self.rows |= rows


def open_outputs(ctx: RunContext, task: Task, teacher: Teacher) -> TeacherOutputs:
    """Return the outputs of a run's teacher, as far as they were computed before a stop."""
    recipe = task.recipe
    assert recipe.distillation is not None
    parts = (
        teacher.fingerprint,
        teacher.engine.model.config,
        teacher.engine.precision,
        teacher.preprocessing,
        ctx.dataset.fingerprint(),
        recipe.augment,
        recipe.distillation.views,
        recipe.run.seed,
    )
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    outputs = TeacherOutputs(EmbeddingFiles(ctx.run_dir / "teacher" / key, ctx.reporter.say))
    for rows, record in outputs.files.read():
        outputs.rows |= rows
        outputs.elapsed = max(outputs.elapsed, float(record["elapsed"]))
    return outputs


def draw_views(task: Task, count: int) -> Tensor:
    """Return the affine maps (views, `count`, 2, 3) of a run's views, the first of which are whole images."""
    assert task.recipe.distillation is not None
    size = (task.preprocessing.height, task.preprocessing.width)
    views = [torch.tensor(IDENTITY).expand(count, 2, 3)]
    for view in range(1, task.recipe.distillation.views or 1):
        seed_all(task.recipe.run.seed, -view)  # no step has a negative number
        views.append(draw_affine_maps(count, size, task.recipe.augment))
    return torch.stack(views)


def compute_targets(ctx: RunContext, task: Task, teacher: Teacher, outputs: TeacherOutputs) -> TeacherTargets:
    """Return the targets of the training images of a run, computing the outputs that are missing.

    Raises:
        DataError: if an image can no longer be read.
        OutputError: if the outputs cannot be written.
    """
    dataset, samples, recipe = ctx.dataset, ctx.dataset.in_split("train"), task.recipe.distillation
    assert recipe is not None
    maps = draw_views(task, len(samples))
    keys = [[f"{view} {index}" for view in range(len(maps))] for index in range(len(samples))]
    missing = [index for index, names in enumerate(keys) if any(name not in outputs.rows for name in names)]
    if missing:
        canvas = make_canvas(dataset, teacher.preprocessing, task.recipe.augment)
        loader = TrainLoader(dataset, samples, canvas, workers=task.recipe.run.workers, reporter=ctx.reporter)
        size = short_batch_size(teacher.engine.model.config, ctx.device)
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        done, new, written_at = len(samples) - len(missing), {}, time.monotonic()
        try:
            for indices, (images, _) in zip(batches, loader.batches(iter(batches)), strict=True):
                for view in range(len(maps)):
                    rows = _run_teacher(teacher, images, maps[view, indices])
                    new |= zip((keys[index][view] for index in indices), rows, strict=True)
                done += len(indices)
                ctx.reporter.progress("running the teacher", done, len(samples))
                if time.monotonic() - written_at > WRITE_SECONDS:
                    outputs.write(new, ctx.clock.elapsed)
                    new, written_at = {}, time.monotonic()
        finally:  # also when a signal stops the run
            outputs.write(new, ctx.clock.elapsed)
    rows = torch.stack([torch.stack([outputs.rows[names[view]] for names in keys]) for view in range(len(maps))])
    features, logits = rows.tensor_split([teacher.dim], dim=2)
    probabilities = None
    if teacher.outputs is not None:
        probabilities = (logits[..., list(teacher.outputs)] / recipe.temperature).softmax(dim=2)
    labels = target_tensor(samples, dataset.target, len(dataset.classes))
    record = teacher.record() | {"views": len(maps)}
    return TeacherTargets(maps, standardize(features), probabilities, labels, record)


def _run_teacher(teacher: Teacher, images: Images, maps: Tensor) -> Tensor:
    """Return features, then logits if it knows the classes (B, D [+ classes]), of views of uint8 images."""
    views = augment(images, teacher.preprocessing, AugmentRecipe(), maps)
    assert not isinstance(views, list)
    output = teacher.engine((views * 255).round().to(torch.uint8))
    return torch.cat([output.pooled, output.logits], dim=1) if teacher.outputs else output.pooled
