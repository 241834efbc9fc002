"""Compute a teacher's outputs for the training images once, and keep them so that a stopped run goes on from them.

RUN/teacher/KEY/   a `megavit.training.feature_store.FeatureStore`, whose keys are view and index of an image
"""

import hashlib
import time

import torch
from torch import Tensor

from megavit.config.recipe import AugmentRecipe
from megavit.data.augment import augment, draw_affine_maps
from megavit.data.image_dataset import Images
from megavit.data.targets import target_tensor
from megavit.runtime.seeds import seed_all
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader, short_batch_size
from megavit.training.distillation.teacher import Teacher
from megavit.training.feature_store import FeatureStore
from megavit.training.loop.build import make_canvas
from megavit.training.optim.distillation import TeacherTargets, standardize
from megavit.training.task import Task

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def open_store(ctx: RunContext, task: Task, teacher: Teacher) -> FeatureStore:
    """Return the store of a run's teacher, with what was computed before a stop."""
    recipe = task.recipe
    assert recipe.distillation is not None
    parts = (
        teacher.fingerprint,
        teacher.engine.model.config,
        teacher.preprocessing,
        ctx.dataset.fingerprint(),
        recipe.augment,
        recipe.distillation.views,
        recipe.run.seed,
    )
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return FeatureStore(ctx.run_dir / "teacher" / key, ctx.reporter.say)


def draw_views(task: Task, count: int) -> Tensor:
    """Return the affine maps (views, `count`, 2, 3) of a run's views, the first of which are whole images."""
    assert task.recipe.distillation is not None
    size = (task.preprocessing.height, task.preprocessing.width)
    views = [torch.tensor(IDENTITY).expand(count, 2, 3)]
    for view in range(1, task.recipe.distillation.views or 1):
        seed_all(task.recipe.run.seed, -view)  # no step has a negative number
        views.append(draw_affine_maps(count, size, task.recipe.augment))
    return torch.stack(views)


def compute_targets(ctx: RunContext, task: Task, teacher: Teacher, store: FeatureStore) -> TeacherTargets:
    """Return the teacher's outputs for the training images of a run, of which those in `store` are not computed.

    Raises:
        DataError: if an image can no longer be read.
        OutputError: if the store cannot be written.
    """
    dataset, samples, recipe = ctx.dataset, ctx.dataset.in_split("train"), task.recipe.distillation
    assert recipe is not None
    maps = draw_views(task, len(samples))
    keys = [[f"{view} {index}" for view in range(len(maps))] for index in range(len(samples))]
    missing = [index for index, names in enumerate(keys) if any(name not in store.rows for name in names)]
    if missing:
        canvas = make_canvas(dataset, teacher.preprocessing, task.recipe.augment)
        loader = TrainLoader(dataset, samples, canvas, workers=task.recipe.run.workers, reporter=ctx.reporter)
        size = short_batch_size(teacher.engine.model.config, ctx.device)
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        done = len(samples) - len(missing)
        try:
            for indices, (images, _) in zip(batches, loader.batches(iter(batches)), strict=True):
                for view in range(len(maps)):
                    began = time.monotonic()
                    rows = _run_teacher(teacher, images, maps[view, indices])
                    store.add([keys[index][view] for index in indices], rows, time.monotonic() - began)
                done += len(indices)
                ctx.reporter.progress("running the teacher", done, len(samples))
                if store.is_due:
                    store.write(ctx.clock.elapsed)
        finally:  # also when a signal stops the run
            store.write(ctx.clock.elapsed)
    rows = torch.stack([torch.stack([store.rows[names[view]] for names in keys]) for view in range(len(maps))])
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
