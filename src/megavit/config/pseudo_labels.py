"""Define the settings of training with images that have no labels."""

from dataclasses import dataclass, field

from megavit.config.checks import Settings, check_fraction, check_text, checked


@dataclass(frozen=True, kw_only=True)
class PseudoLabelRecipe(Settings):
    """The use of images without labels, of which some get the class that is predicted for them, a pseudo-label.

    Attributes:
        unlabeled: their source: a folder of any structure, shards or a table; its labels, if any, are ignored.
        confidence: smallest calibrated probability in [0, 1) of a class that becomes a pseudo-label.
    """

    unlabeled: str = field(metadata={"check": check_text})
    confidence: float = checked(check_fraction, 0.5)
