"""Fine-tune pretrained weights in stages, each of which resumes from its own checkpoint, and write the bundle."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from megavit.data.dataset import LabeledImages, Sample
from megavit.data.targets import target_tensor
from megavit.errors import DataError
from megavit.evaluate.probes.cross_validation import NUM_FOLDS, Fold, make_folds
from megavit.evaluate.probes.linear_probe import LinearProbe
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_embeddings
from megavit.runtime.storage import check_writable
from megavit.train.budget.measure import estimate_finish
from megavit.train.context import RunContext, TrainRequest
from megavit.train.data import TrainLoader
from megavit.train.finetune.progressive import FrozenFeatures, describe, progressive_finetune
from megavit.train.finetune.stage import StageInputs, StageResult, train_stage
from megavit.train.history import TuneSummary
from megavit.train.loop.build import StartingModel, build_pretrained, make_eval_loader, make_train_loader
from megavit.train.optim.lora import FINETUNE_METHODS, FinetuneMethod
from megavit.train.report.baselines import estimate_baselines, shrink_training_images
from megavit.train.report.examples import select_ood_samples
from megavit.train.report.finalize import TrainResult, finalize
from megavit.train.run_dir import Plan, advise_resuming, write_plan
from megavit.train.setup.pretrained import fetch_progress
from megavit.train.setup.resolve import resolve_recipe
from megavit.train.setup.sizes import check_resources
from megavit.train.state import TrainState
from megavit.train.task import make_task
from megavit.weights.backbones.fetch import load_source
from megavit.weights.pretrained.pretrained import fingerprint

# With fewer validation images methods cannot be compared; with more images in total, cross-validation takes too long.
MIN_VAL_IMAGES, MAX_CROSS_VALIDATION_IMAGES = 200, 2000


def start_finetuning(ctx: RunContext, request: TrainRequest) -> TrainResult:
    """Fine-tune the requested pretrained weights from the first step."""
    assert request.pretrained is not None
    recipe = resolve_recipe(ctx, request).recipe
    pretrained = build_pretrained(ctx, recipe, request.pretrained)
    weights = sum(p.numel() * p.element_size() for p in pretrained.model.parameters())
    num_stages = 1
    if recipe.finetune.method == "auto":
        num_stages += len(FINETUNE_METHODS) * (NUM_FOLDS if needs_cross_validation(ctx.dataset) else 1)
    need = (3 + 2 * num_stages) * 5 * weights + 2**24
    ctx.dist.run_on_main(lambda: check_writable(ctx.run_dir, "the run with its checkpoints", need=need))
    for sentence in (*request.pretrained.notes, *pretrained.changes):
        ctx.reporter.say(f"{request.pretrained.name}: {sentence}")
    plan = Plan(
        source=request.source,
        fingerprint=ctx.dataset.fingerprint(),
        recipe=recipe,
        pretrained=fingerprint(request.pretrained),
        length=None,
        threads=torch.get_num_threads(),
    )
    ctx.dist.run_on_main(lambda: write_plan(ctx.run_dir, plan, ctx.dataset))
    return _finetune(ctx, pretrained)


def resume_finetuning(ctx: RunContext, plan: Plan) -> TrainResult:
    """Resume the fine-tuning in the run directory, or raise DataError if the pretrained weights have changed."""
    source = load_source(plan.recipe.model.pretrained, ctx.reporter.say, fetch_progress(ctx.reporter))
    if fingerprint(source) != plan.pretrained:
        raise DataError(
            f"the weights of {source.name} have changed since the run began: restore them, or start a new run"
        )
    check_resources(plan.recipe, ctx.dataset, ctx.device, source)
    return _finetune(ctx, build_pretrained(ctx, plan.recipe, source))


def needs_cross_validation(dataset: LabeledImages) -> bool:
    """Return whether validation images are too few to compare methods, and all images few enough to cross-validate."""
    count = dataset.split_sizes()
    return count["val"] < MIN_VAL_IMAGES and count["train"] + count["val"] <= MAX_CROSS_VALIDATION_IMAGES


def _finetune(ctx: RunContext, pretrained: StartingModel) -> TrainResult:
    recipe, metric = pretrained.task.recipe, pretrained.task.metric
    with advise_resuming(ctx.run_dir):
        tuner = Finetuner(ctx, pretrained)
        selection = progressive_finetune(
            tuner.frozen,
            tuple(method for method in FINETUNE_METHODS if recipe.finetune.method in ("auto", method)),
            tuner.train_method,
            lambda result: ctx.reporter.say(describe(result, metric)),
            keep_last=recipe.finetune.method != "auto",
        )
        ctx.reporter.say(f"{selection.method} is selected: {selection.reason}")
        summary = TuneSummary(
            pretrained=recipe.model.pretrained,
            origin=pretrained.origin.place,
            license=pretrained.origin.license,
            changes=pretrained.changes,
            metric=metric,
            held_out=tuner.held_out,
            results=selection.results,
            selected=selection.method,
            reason=selection.reason,
        )
        return ctx.dist.run_on_main(
            lambda: finalize(
                ctx,
                tuner.make_state(selection.method),
                pretrained.task,
                tuner.val_loader,
                summary,
                train_images=tuner.train_images,
            ),
            wait_long=True,
        )


class Finetuner:
    """A trainer that embeds the images with the pretrained model, and fine-tunes it by any method."""

    def __init__(self, ctx: RunContext, pretrained: StartingModel) -> None:
        self.ctx, self.pretrained, self.clock = ctx, pretrained, ctx.clock
        self.recipe, dataset = pretrained.task.recipe, ctx.dataset
        self.pool: tuple[Sample, ...] = (*dataset.in_split("train"), *dataset.in_split("val"))
        num_training = len(dataset.in_split("train"))
        self.split = Fold(torch.arange(num_training), torch.arange(num_training, len(self.pool)))
        self.stages: dict[str, StageResult] = {}

        began = ctx.clock.now()
        preprocessing = pretrained.task.preprocessing
        loader = self._make_eval_loader(self.pool)
        embeddings = loader.map(
            lambda batches: compute_embeddings(pretrained.model, batches, preprocessing), ctx.parallel
        )
        seconds = ctx.clock.now() - began
        self.train_images = shrink_training_images(loader, preprocessing, num_training)
        del loader  # its pixels take far more memory than the embeddings
        unsmoothed = replace(self.recipe, optimizer=replace(self.recipe.optimizer, label_smoothing=0.0))
        task = make_task(unsmoothed, preprocessing, dataset, torch.device("cpu"))
        labels = target_tensor(self.pool, dataset.target, len(dataset.classes))
        splits, self.held_out = [self.split], f"{len(dataset.in_split('val')):,} validation images"
        if self.recipe.finetune.method == "auto" and needs_cross_validation(dataset):
            splits = make_folds(labels, seed=self.recipe.run.seed, digests=[sample.digest for sample in self.pool])
            self.held_out = (
                f"{len(self.pool):,} training and validation images, each predicted by a model trained on the other "
                f"{len(splits) - 1} folds"
            )
        bias = get_head(pretrained.model).bias.detach().cpu()
        self.frozen = FrozenFeatures(embeddings, labels, task, bias, seconds=seconds, folds=splits)
        ctx.reporter.say(f"methods are compared on {self.held_out}")
        self.val_loader = self._make_eval_loader(dataset.in_split("val"))
        ood_samples = select_ood_samples(dataset.in_split("train"))
        rest = len(dataset.in_split("test")) + len(dataset.in_split("val")) + len(ood_samples)
        self.finish_seconds = (
            estimate_finish(ctx.parallel)
            + seconds * rest / len(self.pool)
            + estimate_baselines(dataset, preprocessing, self.recipe)
        )

    def train_method(self, name: str, probes: list[LinearProbe], num_left: int) -> tuple[Tensor, float, str] | None:
        """Train by a method on each fold, as `megavit.train.finetune.progressive.TrainMethod`."""
        (method,) = (method for method in FINETUNE_METHODS if method == name)
        splits = self.frozen.folds
        is_cross_validated = len(splits) > 1
        probes = self.ctx.dist.run_on_main(lambda: probes)  # every process must start from the same model
        stages: list[StageResult] = []
        for number, (split, probe) in enumerate(zip(splits, probes, strict=True)):
            folder = f"{method}-{number + 1}" if is_cross_validated else method
            # Half of the remaining time is reserved for later methods, although they may not be tried.
            shares = min(num_left, 2) * len(splits) - number + is_cross_validated
            stage = self._train_stage(folder, method, (split, probe), shares, force=number > 0)
            if stage is None:
                return None
            stages.append(stage)
        if not is_cross_validated:
            self.stages[method] = stages[0]
        steps = sum(stage.steps for stage in stages) // len(stages)
        detail = f"{steps:,} steps of {self.pretrained.task.batch_size} images"
        detail += f", {len(stages)} times" * is_cross_validated
        return torch.cat([stage.logits for stage in stages]), sum(stage.seconds for stage in stages), detail

    def make_state(self, name: str) -> TrainState:
        """Return the training state of a method, trained on all training images, for the bundle and the report."""
        probe = self.frozen.fit_probe(self.split.train)
        if name == "probe":
            return _finished_state(self._with_head(probe))
        if name not in self.stages:
            self.ctx.reporter.say(f"training {name} once more, on all training images")
            (method,) = (method for method in FINETUNE_METHODS if method == name)
            stage = self._train_stage(method, method, (self.split, probe), 1, force=True)
            assert stage is not None  # because of `force`
            self.stages[name] = stage
        return _finished_state(self.stages[name].model, self.stages[name])

    def _with_head(self, probe: LinearProbe) -> MegaVit:
        model = copy.deepcopy(self.pretrained.model)
        head = get_head(model)
        with torch.no_grad():
            head.weight.copy_(probe.weight)
            head.bias.copy_(probe.bias)
        return model

    def _train_stage(
        self, folder: str, method: FinetuneMethod, start: tuple[Fold, LinearProbe], shares: int, *, force: bool
    ) -> StageResult | None:
        """Train on one fold for its share of the remaining time, or for the recipe's epochs."""
        ctx, clock, (split, probe) = self.ctx, self.ctx.clock, start
        began = clock.now()
        training, held_out = ([self.pool[index] for index in indices.tolist()] for indices in split)
        task = self.pretrained.task
        task = replace(task, num_images=len(training), batch_size=min(task.batch_size, len(training)))
        inputs = StageInputs(
            self._with_head(probe),
            task,
            make_train_loader(ctx, task, training),
            self._make_eval_loader(held_out),
        )
        budget_seconds = None
        if not self.recipe.run.epochs:
            total = self.recipe.run.minutes * 60 - self.finish_seconds
            budget_seconds = ctx.dist.run_on_main(lambda: max(0.0, total - self.clock.elapsed) / shares)
        stage = train_stage(
            replace(ctx, run_dir=ctx.run_dir / "stages" / folder),
            inputs,
            method,
            budget_seconds,
            force=force or self.recipe.finetune.method != "auto",
        )
        if stage is not None:
            # Time that the stage took before a stop counts for this run.
            self.clock = self.clock.after(max(0.0, stage.seconds - (clock.now() - began)))
        return stage

    def _make_eval_loader(self, samples: Sequence[Sample]) -> TrainLoader:
        return make_eval_loader(self.ctx, self.pretrained.task, samples)


def get_head(model: MegaVit) -> nn.Linear:
    assert isinstance(model.mlp_head, nn.Linear)  # as in every model with outputs
    return model.mlp_head


def _finished_state(model: MegaVit, stage: StageResult | None = None) -> TrainState:
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
