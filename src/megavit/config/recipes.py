"""Named recipes. Each says what it is for, what it costs and what it brought."""

from megavit.config.checks import check_choice
from megavit.config.recipe import (
    AugmentRecipe,
    DataRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    RunRecipe,
    ScheduleRecipe,
)


def small() -> Recipe:
    """Small pictures (up to 40 pixels) of things that must not be mirrored: digits, letters, symbols.

    Shifts by whole pixels only, because anything that resamples blurs small pictures, and only of images that have
    been seen before; half of the patches are left out early, which makes steps cheaper. Chosen on validation images of
    Fashion-MNIST, one seed so far: `benchmarks/learning/ablate.py` measures each choice.
    """
    return Recipe(
        augment=AugmentRecipe(shift=0.04, mixup=0.2, after=8),
        optimizer=OptimizerRecipe(label_smoothing=0.05),
        schedule=ScheduleRecipe(early=0.7, patch_drop=0.5),
    )


def photos() -> Recipe:
    """Photographs and drawings larger than 40 pixels: crops, mirroring, color, CutMix. Not tuned yet."""
    return Recipe(augment=AugmentRecipe(crop=0.35, flip=True, color=0.3, cutmix=1.0))


def demo() -> Recipe:
    """The demonstration: scikit-learn's 1,797 digits of 8×8 pixels, in less than 20 seconds of training on two cores.

    Chosen on the validation images of three divisions. README.md shows what `make demo` brought.
    """
    return Recipe(
        model=ModelRecipe(preset="pico", image_size=8, patch_size=2, channels=1),
        data=DataRecipe(val=0.1, test=0.2),
        augment=AugmentRecipe(shift=0.125, mixup=0.2),
        schedule=ScheduleRecipe(early=0.7, patch_drop=0.25),
        run=RunRecipe(epochs=44, batch_size=64, precision="float32"),
    )


RECIPES = {"small": small, "photos": photos, "demo": demo}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: listing the names there are.
    """
    check_choice("recipe", name, list(RECIPES))
    return RECIPES[name]()
