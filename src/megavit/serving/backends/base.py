"""The interface of a backend, and helpers shared by all backends."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from megavit.serving.settings import PredictOptions


class Backend(Protocol):
    """A model that computes predictions; `Any` is the backend's own type of a preprocessed image.

    The images of a batch have at most `max_batch_bytes` bytes, unless a single image has more. `note` is a sentence for
    the log of the server, if there is anything to say of the model.
    """

    note: str | None
    max_batch_bytes: float

    def describe(self) -> dict[str, Any]:
        """Return the model's entry in `GET /models`, without its name."""
        ...

    def warm_up(self) -> float:
        """Predict a blank image twice, to warm up, and return the seconds that the second prediction took."""
        ...

    def preprocess(self, data: bytes, options: PredictOptions, max_pixels: int) -> Any:
        """Return the preprocessed image from the bytes of an image file. Must be thread-safe.

        Raises:
            TooManyPixelsError: before anything is decoded.
            ImageError: if it cannot be read.
            ConfigError: for options that the model does not support.
        """
        ...

    def nbytes(self, image: Any) -> int:
        """Return the memory in bytes that a preprocessed image takes."""
        ...

    def predict(self, images: Sequence[Any], options: Sequence[PredictOptions]) -> list[dict[str, Any]]:
        """Return the prediction for each image, as plain JSON types."""
        ...

    def explain(self, image: Any) -> bytes:
        """Return a PNG of the image with a heat map overlay."""
        ...


def time_prediction(backend: Backend, blank: Any) -> float:
    """Predict an image twice and return the seconds that the second prediction took."""
    backend.predict([blank], [PredictOptions()])
    started = time.perf_counter()
    backend.predict([blank], [PredictOptions()])
    return time.perf_counter() - started


def group_by_options(options: Sequence[PredictOptions]) -> Iterator[tuple[int, float | None, list[int]]]:
    """Yield each combination of `top` and `coverage` with the indices of its images."""
    groups: dict[tuple[int, float | None], list[int]] = defaultdict(list)
    for index, option in enumerate(options):
        groups[option.top, option.coverage].append(index)
    for (top, coverage), indices in groups.items():
        yield top, coverage, indices
