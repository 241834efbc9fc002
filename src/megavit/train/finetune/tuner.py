"""What the rungs of one fine-tuning share: the images as the frozen model sees them, how they are divided, the time."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from megavit.data.dataset import LabeledImages, Sample
from megavit.data.targets import target_tensor
from megavit.distributed.context import ParallelContext
from megavit.evaluate.probes.cross_validation import Fold, make_folds
from megavit.evaluate.probes.linear_probe import LinearProbe
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_embeddings
from megavit.train.budget.measure import ending_seconds
from megavit.train.data import TrainLoader
from megavit.train.finetune.progressive import Frozen, fit
from megavit.train.finetune.stage import Stage, train_stage
from megavit.train.loop.build import canvas, compared, task_of, together
from megavit.train.loop.loop import Task
from megavit.train.optim.lora import TRAINED, Trained
from megavit.train.progress import Reporter
from megavit.train.state import TrainState

# Fewer images of validation cannot tell one rung from another; and of more than that in all, cross-validation takes
# long.
FEW, MANY = 200, 2000


def is_few(images: LabeledImages) -> bool:
    """Whether rungs are compared in cross-validation."""
    count = images.split_sizes()
    return count["val"] < FEW and count["train"] + count["val"] <= MANY


@dataclass(frozen=True)
class Start:
    """The model before anything is learned, its task on the training images, and what was changed to make it fit."""

    model: MegaVit
    task: Task
    changed: list[str]


class Tuner:
    """Reads the images and embeds them; then trains the rungs that are asked of it.

    Attributes:
        frozen: the images of training and validation as the model sees them that is begun with.
        divisions: what is learned from and held back, to compare rungs.
        held_back: a few words on that.
        validation: feeds the images of validation.
    """

    def __init__(
        self,
        out: Path,
        start: Start,
        images: LabeledImages,
        watch: Reporter,
        began: float,
        parallel: ParallelContext,
    ) -> None:
        self.out, self.start, self.images, self.watch, self.began, self.parallel = (
            out,
            start,
            images,
            watch,
            began,
            parallel,
        )
        self.recipe, size = start.task.recipe, start.task.preprocessing
        self.pool: tuple[Sample, ...] = (*images.in_split("train"), *images.in_split("val"))
        training = len(images.in_split("train"))
        self.whole = Fold(torch.arange(training), torch.arange(training, len(self.pool)))
        self.stages: dict[str, Stage] = {}

        before = time.monotonic()
        pool = self._held_feed(self.pool)
        embeddings = together(lambda batches: compute_embeddings(start.model, batches, size), pool, parallel)
        seconds = time.monotonic() - before
        hard = replace(self.recipe, optimizer=replace(self.recipe.optimizer, label_smoothing=0.0))
        task = task_of(hard, size, images, torch.device("cpu"))
        targets = target_tensor(self.pool, images.target, len(images.classes))
        self.frozen = Frozen(embeddings, targets, task, head_of(start.model).bias.detach().cpu(), seconds)
        self.divisions, self.held_back = [self.whole], f"{len(images.in_split('val')):,} images of validation"
        if self.recipe.tune.rung == "auto" and is_few(images):
            self.divisions = make_folds(
                targets, seed=self.recipe.run.seed, digests=[sample.digest for sample in self.pool]
            )
            self.held_back = (
                f"{len(self.pool):,} images of training and validation, each by a model that learned from other "
                f"{len(self.divisions) - 1} fifths"
            )
        watch.say(f"rungs are compared on {self.held_back}")
        self.validation = self._held_feed(images.in_split("val"))
        # Test images are read and measured, those of validation measured again, and the report is drawn.
        rest = sum(map(len, (images.in_split("test"), images.in_split("val"), compared(images.in_split("train")))))
        self.finish_seconds = ending_seconds(parallel) + seconds * rest / len(self.pool)

    def train_rung(self, rung: str, probes: list[LinearProbe], left: int) -> tuple[Tensor, float, str] | None:
        """As `megavit.train.finetune.progressive.TrainRung`."""
        (name,) = (one for one in TRAINED if one == rung)
        crossed = len(self.divisions) > 1
        probes = self.parallel.dist.run_on_main(lambda: probes)  # the same model to begin with
        found: list[Stage] = []
        for number, (division, probe) in enumerate(zip(self.divisions, probes, strict=True)):
            folder = f"{name}-{number + 1}" if crossed else name
            # Half of the time is for the rungs above: they may not come to be.
            shares = min(left, 2) * len(self.divisions) - number + crossed
            stage = self._stage(folder, name, division, probe, shares, must=number > 0)
            if stage is None:
                return None
            found.append(stage)
        if not crossed:
            self.stages[name] = found[0]
        steps = sum(stage.steps for stage in found) // len(found)
        detail = f"{steps:,} steps of {self.start.task.batch_size} images" + (f", {len(found)} times" * crossed)
        return torch.cat([stage.logits for stage in found]), sum(stage.seconds for stage in found), detail

    def state_of(self, rung: str) -> TrainState:
        """What the bundle is made of: the rung as learned from the training images."""
        probe = fit(self.frozen, self.whole.train)
        if rung == "probe":
            return finished(self.with_head(probe))
        if rung not in self.stages:
            self.watch.say(f"{rung}: once more, on all training images")
            (name,) = (one for one in TRAINED if one == rung)
            stage = self._stage(name, name, self.whole, probe, 1, must=True)
            assert stage is not None  # it must
            self.stages[rung] = stage
        stage = self.stages[rung]
        return finished(stage.model, stage)

    def with_head(self, probe: LinearProbe) -> MegaVit:
        """The model that is begun with, and the probe for its head."""
        model = copy.deepcopy(self.start.model)
        head = head_of(model)
        with torch.no_grad():
            head.weight.copy_(probe.weight)
            head.bias.copy_(probe.bias)
        return model

    def _stage(
        self, folder: str, rung: Trained, division: Fold, probe: LinearProbe, shares: int, *, must: bool
    ) -> Stage | None:
        """A rung on one division, in its share of the time that is left, or as many epochs as the recipe says."""
        before = time.monotonic()
        learned, held = ([self.pool[place] for place in places.tolist()] for places in division)
        task = replace(self.start.task, images=len(learned), batch_size=min(self.start.task.batch_size, len(learned)))
        size, margin = canvas(self.images, task)
        feeds = (
            TrainLoader(self.images, learned, size, self.recipe.run.workers, self.watch, margin),
            self._held_feed(held),
        )
        limit = None
        if not self.recipe.run.epochs:
            until = self.began + self.recipe.run.minutes * 60 - self.finish_seconds
            limit = self.parallel.dist.run_on_main(lambda: max(0.0, until - time.monotonic()) / shares)
        must = must or self.recipe.tune.rung != "auto"
        stage = train_stage(
            self.out / "rungs" / folder,
            self.with_head(probe),
            rung,
            task,
            feeds,
            limit,
            self.watch,
            must=must,
            parallel=self.parallel,
        )
        if stage is not None:
            # What a stage had done before a stop counts as time of this run.
            self.began -= max(0.0, stage.seconds - (time.monotonic() - before))
        return stage

    def _held_feed(self, samples: Sequence[Sample]) -> TrainLoader:
        return TrainLoader(self.images, samples, self.start.task.preprocessing, self.recipe.run.workers, self.watch)


def head_of(model: MegaVit) -> nn.Linear:
    assert isinstance(model.mlp_head, nn.Linear)  # as of every model with outputs
    return model.mlp_head


def finished(model: MegaVit, stage: Stage | None = None) -> TrainState:
    """The state of a run whose weights to keep are those of `model`."""
    history = stage.history if stage else []
    return TrainState(
        model=model,
        average=model,
        optimizers=[],
        step=stage.steps if stage else 0,
        progress=1.0,
        skipped=stage.skipped if stage else 0,
        seconds=stage.seconds if stage else 0.0,
        history=history,
        best=model.state_dict(),
        best_epoch=len(history) - 1 if history else None,
    )
