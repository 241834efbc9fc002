"""Embed the images with a pretrained model, and train it on them by one method after the other."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from megavit.config.recipe import AUTO
from megavit.data.dataset import Sample
from megavit.data.targets import target_tensor
from megavit.evaluation.probes.cross_validation import Fold, make_folds
from megavit.evaluation.probes.linear_probe import LinearProbe
from megavit.model.vit import MegaVit
from megavit.training.budget.measure import estimate_finish
from megavit.training.context import RunContext
from megavit.training.finetune.embeddings import Embeddings
from megavit.training.finetune.progressive import FrozenFeatures
from megavit.training.finetune.pseudo_labels.collect import label_by_prediction
from megavit.training.finetune.stage import (
    MAX_EPOCHS,
    MAX_EPOCHS_BEFORE_OTHERS,
    MAX_EPOCHS_FROM_PRETRAINING,
    StageInputs,
    StageResult,
    train_stage,
)
from megavit.training.history import PseudoLabelSummary
from megavit.training.loop.build import StartingModel, make_eval_loader, make_train_loader
from megavit.training.optim.lora import FINETUNE_METHODS, FinetuneMethod
from megavit.training.report.baselines import estimate_baselines, shrink_training_images
from megavit.training.report.evaluation import EvalInputs
from megavit.training.report.examples import OOD_FIT_SAMPLES, estimate_explanations, select_ood_samples
from megavit.training.state import TrainState
from megavit.training.task import make_task

# With fewer validation images, a part of the training images is also held out to compare methods on.
MIN_HELD_OUT = 50
# Largest share of a time budget in which a tuned model computes the features of training images once more.
OOD_SHARE = 0.04
# A stage with all training images takes so much longer than one without those held out.
REPEAT_FACTOR = 1.25
# A training step takes about three forward passes.
STEP_PASSES = 3
# A tuned model takes so much longer for an image than the frozen one in the same precision, and its engine so long to
# find the faster way.
TUNED_FACTOR, ENGINE_SECONDS = 1.2, 2.0


class Finetuner:
    """A trainer that embeds the images with the pretrained model, and fine-tunes it by any method.

    Attributes:
        frozen: embeddings of the training and validation images.
        held_out: description of the images that methods are compared on.
    """

    def __init__(self, ctx: RunContext, start: StartingModel, weights: str) -> None:
        self.start, self.recipe, dataset = start, start.task.recipe, ctx.dataset
        self.embeddings = Embeddings(ctx, start, weights)
        # Time before a stop counts.
        self.ctx = ctx = replace(ctx, clock=ctx.clock.after(self.embeddings.elapsed))
        self.embeddings.ctx = ctx
        self.clock = ctx.clock
        training = dataset.in_split("train")
        self.pool: tuple[Sample, ...] = (*training, *dataset.in_split("val"))
        self.stages: dict[str, StageResult] = {}
        self.longest = 0.0  # duration of the longest stage that may have to be repeated

        began = ctx.clock.now()
        self.loader = make_eval_loader(ctx, start.task, self.pool)
        reading_seconds = (ctx.clock.now() - began) / len(self.pool)
        embeddings = self.embeddings.of(self.loader)
        self.train_images = shrink_training_images(self.loader, start.task.preprocessing, len(training))

        unsmoothed = replace(self.recipe, optimizer=replace(self.recipe.optimizer, label_smoothing=0.0))
        task = make_task(unsmoothed, start.task.preprocessing, dataset, torch.device("cpu"))
        labels = target_tensor(self.pool, dataset.target, len(dataset.classes))
        self.whole = Fold(torch.arange(len(training)), torch.arange(len(training), len(self.pool)))
        split = self._hold_out(labels)
        count = len(split.held_out) - len(self.whole.held_out)
        self.held_out = f"{len(self.whole.held_out):,} validation images"
        if count:
            self.held_out += f" and {count:,} training images, which the methods compared were not trained on"
        bias = get_head(start.model).bias.detach().cpu()
        self.frozen = FrozenFeatures(embeddings, labels, task, bias, seconds=self.embeddings.seconds, split=split)
        ctx.reporter.say(f"methods are compared on {self.held_out}")
        self.finish_seconds = self._estimate_finish(reading_seconds)
        self.pseudo = label_by_prediction(ctx, self.embeddings, self.frozen, self.pool, self.finish_seconds)
        if self.pseudo is not None and self.pseudo.labels.gain.is_better:
            self.frozen = replace(self.frozen, fit_student=self.pseudo.labels.fit_probe)

    @property
    def methods(self) -> tuple[FinetuneMethod, ...]:
        """Methods to try in order after the probe; what was pretrained on few images is trained as from scratch."""
        requested = self.recipe.finetune.method
        if requested == AUTO and self.start.is_pretraining:
            return ("all",)
        return tuple(method for method in FINETUNE_METHODS if requested in (AUTO, method))

    def train_method(self, name: str, probe: LinearProbe) -> tuple[Tensor, float, str] | None:
        """Train by a method, as `megavit.training.finetune.progressive.TrainMethod`."""
        (method,) = (method for method in FINETUNE_METHODS if method == name)
        probe = self.ctx.dist.run_on_main(lambda: probe)  # every process must start from the same model
        is_whole = self.frozen.split is self.whole
        folder = method if is_whole else f"{method}-compared"
        stage = self._train_stage(folder, method, (self.frozen.split, probe), force=False)
        if stage is None:
            return None
        if is_whole:
            self.stages[method] = stage
        else:
            self.longest = max(self.longest, stage.seconds)
        return stage.logits, stage.seconds, f"{stage.steps:,} steps of {self.start.task.batch_size} images"

    def make_state(self, name: str, probe: LinearProbe) -> TrainState:
        """Return the training state of a method, trained on all training images, for the bundle and the report.

        `probe` is the one that methods were compared with.
        """
        if name in self.stages:
            return finished_state(self.stages[name].model, self.stages[name])
        if self.frozen.split is not self.whole:
            probe = self.frozen.fit_probe(self.whole.train, probe.penalty)
        if name == "probe":
            return finished_state(self._with_head(probe))
        self.ctx.reporter.say(f"training {name} once more, on all training images")
        (method,) = (method for method in FINETUNE_METHODS if method == name)
        stage = self._train_stage(method, method, (self.whole, probe), force=True)
        assert stage is not None  # because of `force`
        return finished_state(stage.model, stage)

    def finish_pseudo_labels(self) -> PseudoLabelSummary | None:
        """Write the table of the pseudo-labels of all training images, and return its summary; None without any."""
        if self.pseudo is None:
            return None
        summary = self.pseudo.finish(self.ctx.run_dir, self.whole.train, self.ctx.dataset.classes)
        self.ctx.reporter.say(summary.describe()[-1])
        return summary

    def eval_inputs(self, name: str) -> EvalInputs:
        """Return the images to evaluate a method's model on, and for a probe their embeddings."""
        ctx, dataset, embed = self.ctx, self.ctx.dataset, None
        if name == "probe" and not ctx.dist.is_distributed and self.embeddings.precision == "float32":
            embed = self.embeddings.of
        training = dataset.in_split("train")
        indices = {id(sample): index for index, sample in enumerate(training)}
        chosen = select_ood_samples(training) if embed else self._select_ood_samples()
        ood = [indices[id(sample)] for sample in chosen]
        return EvalInputs(
            self.loader.subset(self.whole.held_out), self.loader.subset(torch.tensor(ood)), self.train_images, embed
        )

    def _hold_out(self, labels: Tensor) -> Fold:
        """Return the images to train on and to compare on: validation images and, if these are few, training images."""
        training = self.whole.train
        if self.recipe.finetune.method == "probe" or len(self.whole.held_out) >= MIN_HELD_OUT or len(training) < 2:
            return self.whole
        digests = [sample.digest for sample in self.pool[: len(training)]]
        fold = make_folds(labels[training], seed=self.recipe.run.seed, digests=digests)[0]
        return Fold(fold.train, torch.cat([fold.held_out, self.whole.held_out]))

    def _select_ood_samples(self) -> Sequence[Sample]:
        """Return training images for the out-of-distribution score of a tuned model, as many as the time allows."""
        count = float(OOD_FIT_SAMPLES)
        if not self.recipe.run.epochs:
            seconds = OOD_SHARE * self.recipe.run.minutes * 60
            count = min(count, seconds / max(self.embeddings.exact_image_seconds, 1e-6))
        return select_ood_samples(self.ctx.dataset.in_split("train"), max(1, int(count)))

    def _estimate_finish(self, reading_seconds: float) -> float:
        """Return the seconds from the last method to the end of the command."""
        ctx, task, dataset = self.ctx, self.start.task, self.ctx.dataset
        sizes, image_seconds = dataset.split_sizes(), self.embeddings.exact_image_seconds
        evaluated = sizes["val"] + sizes["test"] + len(self._select_ood_samples())
        return (
            estimate_finish(ctx.parallel)
            + reading_seconds * sizes["test"]
            + TUNED_FACTOR * image_seconds * evaluated
            + ENGINE_SECONDS
            + estimate_explanations(task, STEP_PASSES * image_seconds)
            + estimate_baselines(dataset, task.preprocessing, self.recipe)
        )

    def _with_head(self, probe: LinearProbe) -> MegaVit:
        model = copy.deepcopy(self.start.model)
        head = get_head(model)
        with torch.no_grad():
            head.weight.copy_(probe.weight)
            head.bias.copy_(probe.bias)
        return model

    def _train_stage(
        self, folder: str, method: FinetuneMethod, start: tuple[Fold, LinearProbe], *, force: bool
    ) -> StageResult | None:
        """Train on one split in the remaining time, or for the recipe's epochs."""
        ctx, clock, (split, probe) = self.ctx, self.ctx.clock, start
        began = clock.now()
        training = [self.pool[index] for index in split.train.tolist()]
        task = self.start.task
        task = replace(task, num_images=len(training), batch_size=min(task.batch_size, len(training)))
        is_before_others = method == FINETUNE_METHODS[0] and len(self.methods) > 1
        max_epochs = MAX_EPOCHS_BEFORE_OTHERS if is_before_others else MAX_EPOCHS
        if self.start.is_pretraining and method == "all":
            max_epochs = MAX_EPOCHS_FROM_PRETRAINING
        loader = make_train_loader(ctx, task, training)
        inputs = StageInputs(self._with_head(probe), task, loader, self.loader.subset(split.held_out), max_epochs)
        budget_seconds = None
        if not self.recipe.run.epochs:
            budget_seconds = ctx.dist.run_on_main(lambda: self._time_left(is_repeated=split is not self.whole))
        stage = train_stage(
            replace(ctx, run_dir=ctx.run_dir / "stages" / folder), inputs, method, budget_seconds, force=force
        )
        if stage is not None:
            # Time that the stage took before a stop counts for this run.
            self.clock = self.clock.after(max(0.0, stage.seconds - (clock.now() - began)))
        return stage

    def _time_left(self, *, is_repeated: bool) -> float:
        """Return the seconds left for a stage, which may have to be repeated with all training images."""
        left = max(0.0, self.recipe.run.minutes * 60 - self.finish_seconds - self.clock.elapsed)
        if not is_repeated:
            return left
        return max(0.0, min(left / (1 + REPEAT_FACTOR), left - REPEAT_FACTOR * self.longest))


def get_head(model: MegaVit) -> nn.Linear:
    """Return the head of a model with outputs."""
    assert isinstance(model.mlp_head, nn.Linear)
    return model.mlp_head


def finished_state(model: MegaVit, stage: StageResult | None = None) -> TrainState:
    """Return the state of a finished training: of a stage, or of a probe."""
    history = stage.history if stage else []
    return TrainState(
        model=model,
        ema_model=model,
        optimizers=[],
        step=stage.steps if stage else 0,
        progress=1.0,
        skipped=stage.skipped if stage else 0,
        seconds=stage.seconds if stage else 0.0,
        history=history,
        best=model.state_dict(),
        best_epoch=len(history) - 1 if history else None,
    )
