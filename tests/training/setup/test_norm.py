"""Batch norms that could not normalize a part of a step are refused before the first one."""

import pytest

from megavit.config.presets import preset
from megavit.config.recipe import DataRecipe, ParallelRecipe, Recipe, RunRecipe, ScheduleRecipe
from megavit.errors import ConfigError
from megavit.training.setup.norm import check_batch_norm

EARLY = ScheduleRecipe(early=0.5, scale=0.5)
DROPPED = ScheduleRecipe(early=0.5, patch_drop=0.9)


def recipe(batch_size: int, parts: int = 1, schedule: ScheduleRecipe = ScheduleRecipe()) -> Recipe:  # noqa: B008
    return Recipe(run=RunRecipe(batch_size=batch_size, gradient_accumulation=parts), schedule=schedule)


@pytest.mark.parametrize(
    ("side", "fits", "refused"),
    [
        (8, recipe(2), recipe(1)),
        (8, recipe(8, 4), recipe(8, 8)),
        (8, recipe(8, 3), recipe(7, 3)),
        (16, recipe(1), recipe(1, schedule=EARLY)),
        (16, recipe(2, schedule=DROPPED), recipe(1, schedule=DROPPED)),
    ],
)
def test_a_part_of_a_step_has_more_than_one_token(side, fits, refused):
    config = preset("hybrid-nano", image_size=side, num_classes=2)
    check_batch_norm(config, fits)
    with pytest.raises(ConfigError, match=r"need more than one token .*: choose a larger --batch-size or --image-size"):
        check_batch_norm(config, refused)
    check_batch_norm(preset("nano", image_size=8, patch_size=8, num_classes=2), refused)


@pytest.mark.parametrize(
    "several", [Recipe(data=DataRecipe(keep_aspect=True)), Recipe(parallel=ParallelRecipe(nproc=2))]
)
def test_batch_norms_of_pretrained_weights_are_refused_where_others_are(several):
    with pytest.raises(ConfigError, match='norm "batch" cannot be trained'):
        check_batch_norm(preset("hybrid-nano", num_classes=2), several)
