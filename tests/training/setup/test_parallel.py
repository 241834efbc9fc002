from dataclasses import replace

import pytest

from megavit.config.recipe import DataRecipe, ModelRecipe, ParallelRecipe, Recipe, RunRecipe
from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext
from megavit.training.setup.norm import resolve_norm
from megavit.training.setup.parallel import override_parallel, resolve_parallel

RECIPE = Recipe(run=RunRecipe(epochs=1, batch_size=16, gradient_accumulation=2))
FOUR = DistContext(world_size=4)


def of(**parallel: int) -> Recipe:
    return replace(RECIPE, parallel=ParallelRecipe(**parallel))  # pyrefly: ignore[bad-argument-type]


def test_the_number_of_processes_is_filled_in_and_what_is_left_is_copies():
    settled = resolve_parallel(of(fsdp=2), FOUR).parallel
    assert (settled.nproc, settled.replicate, settled.fsdp, settled.tp, settled.dp_world_size) == (4, 2, 2, 1, 4)
    assert resolve_parallel(of(tp=2), FOUR).parallel.dp_world_size == 2
    assert resolve_parallel(RECIPE, DistContext()).parallel == ParallelRecipe(nproc=1)


@pytest.mark.parametrize(
    ("recipe", "dist", "reason"),
    [
        (of(nproc=2), FOUR, "for 2 processes, but 4 were started"),
        (of(nproc=2), DistContext(), "megavit train --nproc 2"),
        (of(fsdp=3), FOUR, "must divide the number of processes, 4"),
        (replace(RECIPE, model=ModelRecipe(pretrained="some")), FOUR, "--finetune all"),
    ],
)
def test_what_so_many_processes_cannot_do_is_refused(recipe, dist, reason):
    with pytest.raises(ConfigError, match=reason):
        resolve_parallel(recipe, dist)


def test_other_processes_go_on_with_as_large_parts_of_a_step_as_before():
    before = resolve_parallel(RECIPE, DistContext())
    after = override_parallel(before, {"fsdp": 2}, FOUR)
    assert (after.parallel.nproc, after.parallel.fsdp, after.run.gradient_accumulation) == (4, 2, 1)
    back = override_parallel(after, {}, DistContext())
    assert back.parallel == ParallelRecipe(nproc=1) and back.run.gradient_accumulation == 4


HYBRID = replace(RECIPE, model=ModelRecipe(preset="hybrid-nano"))
KEEP_ASPECT = replace(HYBRID, data=DataRecipe(keep_aspect=True))


def test_batch_norms_are_for_one_process_and_images_of_one_size():
    assert resolve_norm(HYBRID, {}) == HYBRID
    for recipe in (resolve_parallel(HYBRID, FOUR), KEEP_ASPECT):
        assert resolve_norm(recipe, {}).model.norm == "layer"
        asked = replace(recipe, model=replace(recipe.model, norm="batch"))
        with pytest.raises(ConfigError, match=r'norm "batch" cannot be trained .*: choose "layer"'):
            resolve_norm(asked, {"model": {"norm": "batch"}})
    from_weights = replace(KEEP_ASPECT, model=ModelRecipe(norm="batch", pretrained="some"))
    with pytest.raises(ConfigError, match="start from weights without it, or leave out keep_aspect"):
        resolve_norm(from_weights, {"model": {"norm": "batch"}})
    rms = replace(KEEP_ASPECT, model=replace(HYBRID.model, norm="rms"))
    assert resolve_norm(rms, {"model": {"norm": "rms"}}) == rms


def test_a_run_with_batch_norms_is_not_resumed_by_several_processes():
    alone = resolve_parallel(HYBRID, DistContext())
    with pytest.raises(ConfigError, match="several processes"):
        override_parallel(alone, {}, FOUR)
    assert override_parallel(alone, {}, DistContext()) == replace(alone, run=alone.run)
