"""Fine-tune pretrained weights in stages, each of which resumes from its own checkpoint, and write the bundle."""

import torch

from megavit.errors import DataError
from megavit.runtime.storage import check_writable
from megavit.training.context import RunContext, TrainRequest
from megavit.training.finetune.finetuner import Finetuner
from megavit.training.finetune.progressive import describe, progressive_finetune
from megavit.training.history import TuneSummary
from megavit.training.loop.build import StartingModel, build_pretrained
from megavit.training.optim.lora import FINETUNE_METHODS
from megavit.training.report.finalize import finalize
from megavit.training.report.result import Run
from megavit.training.run_dir import Plan, advise_resuming, write_plan
from megavit.training.setup.pretrained import fetch_progress
from megavit.training.setup.resolve import resolve_recipe
from megavit.training.setup.sizes import check_resources
from megavit.training.setup.unlabeled import add_unlabeled, restore_unlabeled
from megavit.training.tracking.tracking import tracking
from megavit.weights.backbones.fetch import load_source
from megavit.weights.pretrained.pretrained import fingerprint


def start_finetuning(ctx: RunContext, request: TrainRequest) -> Run:
    """Fine-tune the requested pretrained weights from the first step."""
    ctx, request = add_unlabeled(ctx, request)
    assert request.pretrained is not None
    recipe = resolve_recipe(ctx, request).recipe
    start = build_pretrained(ctx, recipe, request.pretrained)
    weights = sum(p.numel() * p.element_size() for p in start.model.parameters())
    # A method may be trained twice.
    num_stages = 2 * (len(FINETUNE_METHODS) if recipe.finetune.method == "auto" else 1)
    need = (3 + 2 * num_stages) * 5 * weights + 2**24
    ctx.dist.run_on_main(lambda: check_writable(ctx.run_dir, "the run with its checkpoints", need=need))
    for sentence in (*request.pretrained.notes, *start.changes):
        ctx.reporter.say(f"{request.pretrained.name}: {sentence}")
    plan = Plan(
        source=request.source,
        fingerprint=ctx.dataset.fingerprint(),
        recipe=recipe,
        pretrained=fingerprint(request.pretrained),
        unlabeled=None if ctx.unlabeled is None else ctx.unlabeled.images.fingerprint(),
        length=None,
        threads=torch.get_num_threads(),
    )
    ctx.dist.run_on_main(lambda: write_plan(ctx.run_dir, plan, ctx.dataset))
    return _finetune(ctx, start, plan)


def resume_finetuning(ctx: RunContext, plan: Plan) -> Run:
    """Resume the fine-tuning in the run directory, or raise DataError if the pretrained weights have changed."""
    source = load_source(plan.recipe.model.pretrained, ctx.reporter.say, fetch_progress(ctx.reporter))
    if fingerprint(source) != plan.pretrained:
        raise DataError(
            f"the weights of {source.name} have changed since the run began: restore them, or start a new run"
        )
    ctx = restore_unlabeled(ctx, plan.recipe, plan.unlabeled)
    check_resources(plan.recipe, ctx.dataset, ctx.device, source)
    return _finetune(ctx, build_pretrained(ctx, plan.recipe, source), plan)


def _finetune(ctx: RunContext, start: StartingModel, plan: Plan) -> Run:
    recipe, metric = start.task.recipe, start.task.metric
    method = recipe.finetune.method
    with tracking(ctx, recipe) as ctx, advise_resuming(ctx.run_dir):
        tuner = Finetuner(ctx, start, str(plan.pretrained))
        pseudo_labels = tuner.finish_pseudo_labels()
        selection = progressive_finetune(
            tuner.frozen,
            tuner.methods,
            tuner.train_method,
            lambda result: ctx.reporter.say(describe(result, metric)),
            requested=None if method == "auto" else method,
        )
        ctx.reporter.say(f"{selection.method} is selected: {selection.reason}")
        summary = TuneSummary(
            pretrained=recipe.model.pretrained,
            origin=start.origin.place,
            license=start.origin.license,
            changes=start.changes,
            metric=metric,
            held_out=tuner.held_out,
            results=selection.results,
            selected=selection.method,
            reason=selection.reason,
            pseudo_labels=pseudo_labels,
        )
        state, inputs = tuner.make_state(selection.method, selection.probe), tuner.eval_inputs(selection.method)
        return ctx.dist.run_on_main(lambda: finalize(ctx, state, start.task, inputs, summary), wait_long=True)
