"""What a worker asks of a model, whatever computes it."""

from collections.abc import Sequence
from typing import Any, Protocol

from megavit.serve.settings import Options


class Backend(Protocol):
    """A model that answers. `Any` below is a picture, which only the backend looks into.

    Attributes:
        batch_bytes: of pictures that it can answer together, at most, unless one alone has more.
    """

    batch_bytes: float

    def describe(self) -> dict[str, Any]:
        """What `GET /models` tells of it, without its name."""
        ...

    def warm_up(self) -> float:
        """Answer for one picture of no content, so that the first request need not wait; seconds that the next took."""
        ...

    def prepare(self, data: bytes, options: Options, max_pixels: int) -> Any:
        """The picture in the bytes of an image file. Called from several threads.

        Raises:
            TooManyPixelsError: before any is decoded.
            ImageError: for one that cannot be read.
            ConfigError: for options that the model cannot fulfil.
        """
        ...

    def size(self, picture: Any) -> int:
        """Bytes that it holds until it is answered."""
        ...

    def answer(self, pictures: Sequence[Any], options: Sequence[Options]) -> list[dict[str, Any]]:
        """An answer for each, as plain JSON types."""
        ...

    def explain(self, picture: Any) -> bytes:
        """A PNG of the picture under a map of where its answer comes from."""
        ...
