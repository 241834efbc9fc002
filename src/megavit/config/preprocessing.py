"""How pixels become the model's input: the part of a bundle that other runtimes most often get wrong."""

from dataclasses import dataclass

from megavit.config.checks import check_channels, check_positive, check_whole, is_number
from megavit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize to `height` × `width` (bicubic, antialiased, the whole image), then (value / 255 - mean) / std.

    Attributes:
        height, width: pixels, at least 2.
        channels: 1 (grey), 3 (RGB), or any other number up to 64, which the images must then have.
        mean, std: of values in [0, 1]; one number for every channel alike, or one for each.
    """

    height: int
    width: int
    channels: int
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5

    def __post_init__(self) -> None:
        # PyTorch (2.15) resizes wrongly to a single column.
        check_whole("height", self.height, minimum=2)
        check_whole("width", self.width, minimum=2)
        check_channels("channels", self.channels)
        for value in self._for_channels("mean"):
            if not is_number(value) or not -float("inf") < value < float("inf"):
                raise ConfigError(f"mean must be a number, got {value!r}")
        for value in self._for_channels("std"):
            check_positive("std", value)

    def _for_channels(self, name: str) -> tuple[float, ...]:
        value = getattr(self, name)
        if not isinstance(value, tuple):
            return (value,)
        if len(value) != self.channels:
            raise ConfigError(f"{name} must be one number, or one for each of {self.channels} channels; got {value!r}")
        return value
