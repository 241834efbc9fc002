"""Build the model, loaders and objective of a pretraining."""

from dataclasses import replace

from megavit.config.recipe import Recipe
from megavit.data.unlabeled import NO_CLASS
from megavit.model.vit import MegaVit
from megavit.runtime.seeds import seed_all
from megavit.training.clock import EpochBudget
from megavit.training.context import RunContext, TrainSetup
from megavit.training.loop.build import (
    adapt_preprocessing,
    compute_preprocessing,
    make_eval_loader,
    make_model_config,
    make_train_loader,
)
from megavit.training.pretraining.objective import LeJepa, make_projection
from megavit.training.state import TrainState
from megavit.training.task import make_task
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.pretrained import PretrainedModel

# Largest number of images whose embeddings are watched.
WATCHED_IMAGES = 1_000


def build_pretraining(ctx: RunContext, recipe: Recipe, weights: PretrainedModel | None) -> TrainSetup:
    """Return the inputs of the loop for a resolved recipe, whose budget is replaced later.

    The images whose embeddings are watched are training images too, as their classes are not learned.
    """
    assert recipe.pretraining is not None
    dataset = ctx.dataset
    config = replace(make_model_config(recipe, dataset, weights), num_classes=0)
    seed_all(recipe.run.seed)
    model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = recipe.run.gradient_checkpointing
    if weights is None:
        preprocessing = compute_preprocessing(config, dataset)
    else:
        for sentence in (*weights.notes, *initialize_from(model, weights)):
            ctx.reporter.say(f"{weights.name}: {sentence}")
        preprocessing = adapt_preprocessing(config, weights)
    model.set_submodule("mlp_head", make_projection(config.pooled_dim, recipe.pretraining.projection, ctx.parallel))
    task = make_task(recipe, preprocessing, dataset, ctx.device)
    ctx.parallel.param_dtype = task.dtype
    state = TrainState.create(model.to(ctx.device), recipe.optimizer, ctx.parallel)
    training = dataset.in_split("train")
    watched = training[:: -(-len(training) // WATCHED_IMAGES)]
    return TrainSetup(
        state,
        task,
        make_train_loader(ctx, task),
        make_eval_loader(ctx, task, watched),
        EpochBudget(1),
        LeJepa(recipe.pretraining, is_labeled=dataset.classes != (NO_CLASS,)),
    )
