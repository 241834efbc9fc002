"""How pixels become the model's input: the part of a bundle that other runtimes most often get wrong."""

from dataclasses import dataclass

from megavit.config.checks import check_positive, check_whole, is_number
from megavit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize to `height` × `width` (bicubic, antialiased, the whole image), then (value / 255 - mean) / std.

    Attributes:
        height, width: pixels, at least 2.
        channels: 1 (grey) or 3 (RGB).
        mean, std: of values in [0, 1], the same for every channel.
    """

    height: int
    width: int
    channels: int
    mean: float = 0.5
    std: float = 0.5

    def __post_init__(self) -> None:
        # PyTorch (2.15) resizes wrongly to a single column.
        check_whole("height", self.height, minimum=2)
        check_whole("width", self.width, minimum=2)
        if type(self.channels) is not int or self.channels not in (1, 3):
            raise ConfigError(f"channels must be 1 or 3, got {self.channels!r}")
        if not is_number(self.mean) or not -float("inf") < self.mean < float("inf"):
            raise ConfigError(f"mean must be a number, got {self.mean!r}")
        check_positive("std", self.std)
