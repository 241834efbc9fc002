"""Define the settings of training that imitates a larger model."""

from dataclasses import dataclass, field

from megavit.config.checks import Settings, check_integer, check_positive, check_range, check_text, checked

MAX_VIEWS = 64


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(Settings):
    """The imitation of a larger model, the teacher, by the one that is trained (arXiv 1503.02531).

    Attributes:
        teacher: source of the teacher: a name in `megavit.config.backbones.BACKBONES`, or any source of
            `megavit.weights.pretrained`.
        views: number of views of each training image that the teacher sees, the whole image and random crops; None for
            as many as the time allows.
        features: weight of the mean squared error of the teacher's standardized features, beside the labels with 1.
        logits: share in [0, 1] of the labels' weight for the teacher's logits, if it is a bundle with the same classes.
        temperature: divisor of both models' logits where they are compared.
    """

    teacher: str = field(metadata={"check": check_text})
    views: int | None = checked(check_integer, None, minimum=1, maximum=MAX_VIEWS)
    features: float = checked(check_range, 2.0, low=0, high=1000)
    logits: float = checked(check_range, 0.5, low=0, high=1)
    temperature: float = checked(check_positive, 2.0, maximum=100)
