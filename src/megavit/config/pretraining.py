"""Define the settings of learning from images without labels: of pretraining, and of pseudo-labels."""

from dataclasses import dataclass, field

from megavit.config.checks import (
    Settings,
    check_factor,
    check_fraction,
    check_integer,
    check_range,
    check_text,
    checked,
)


@dataclass(frozen=True, kw_only=True)
class PretrainingRecipe(Settings):
    """The settings of LeJEPA (arXiv 2511.08544), which learns from images without labels.

    Each image is seen in a few large and a few small crops, whose embeddings are drawn to the mean of the large ones,
    while all embeddings of a batch are drawn to a standard normal distribution, so that they cannot collapse.

    Attributes:
        large_views, small_views: number of crops of each image of the model's size and of half of its sides.
        large_crop, small_crop: smallest and largest area of a large and a small crop: a large one has at least
            `large_crop` of the image, a small one at least `small_crop` and at most `large_crop`.
        grayscale: share in [0, 1] of the crops without color.
        regularization: weight in [0, 1] of the distance from a normal distribution, beside that between views.
        projection: dimensions in which embeddings are compared, of a projection that is dropped at the end.
        directions: number of random directions in which the distribution is compared in a step.
    """

    large_views: int = checked(check_integer, 2, minimum=1, maximum=64)
    small_views: int = checked(check_integer, 2, minimum=0, maximum=64)
    large_crop: float = checked(check_factor, 0.3)
    small_crop: float = checked(check_factor, 0.08)
    grayscale: float = checked(check_range, 0.2, low=0, high=1)
    regularization: float = checked(check_range, 0.05, low=0, high=1)
    projection: int = checked(check_integer, 64, minimum=2, maximum=65_536)
    directions: int = checked(check_integer, 256, minimum=1, maximum=65_536)


@dataclass(frozen=True, kw_only=True)
class PseudoLabelRecipe(Settings):
    """The use of images without labels, of which some get the class that is predicted for them, a pseudo-label.

    Attributes:
        unlabeled: their source: a folder of any structure, shards or a table; its labels, if any, are ignored.
        confidence: smallest calibrated probability in [0, 1) of a class that becomes a pseudo-label.
    """

    unlabeled: str = field(metadata={"check": check_text})
    confidence: float = checked(check_fraction, 0.5)
