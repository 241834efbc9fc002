"""Define named training recipes, with their purpose and how they were chosen."""

from megavit.config.checks import check_choice
from megavit.config.recipe import (
    AUTO,
    AugmentRecipe,
    DataRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    RunRecipe,
    ScheduleRecipe,
)


def small() -> Recipe:
    """Return the recipe for images of up to 40 pixels that must not be mirrored: digits, letters, symbols.

    Shifts are by whole pixels, because resampling blurs small images, and apply only to images seen before. Half of
    the patches are dropped early, for cheaper steps. Chosen on validation images of Fashion-MNIST with one seed
    (`benchmarks/learning/ablate.py`).
    """
    return Recipe(
        augment=AugmentRecipe(shift=0.04, mixup=0.2, after=8),
        optimizer=OptimizerRecipe(label_smoothing=0.05),
        schedule=ScheduleRecipe(early=0.7, patch_drop=0.5),
    )


def photos() -> Recipe:
    """Return the recipe for photographs and drawings above 40 pixels: crops, flips, color, and in long runs CutMix.

    It starts from pretrained weights if there are any at hand. Chosen on validation images of clothing, clip art and
    CIFAR-10 (`docs/benchmarks.md`).
    """
    return Recipe(
        model=ModelRecipe(pretrained=AUTO, stem="conv"),
        augment=AugmentRecipe(crop=0.5, flip=True, color=0.3, cutmix=1.0),
        optimizer=OptimizerRecipe(learning_rate=6e-3),
    )


def demo() -> Recipe:
    """Return the recipe of the demo, scikit-learn's 1,797 digits of 8 × 8 pixels: under 20 seconds on two cores.

    Chosen on validation images of three splits; README.md shows the result.
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
    """Return the recipe of a name, or raise a ConfigError that lists the names."""
    check_choice("recipe", name, list(RECIPES))
    return RECIPES[name]()
