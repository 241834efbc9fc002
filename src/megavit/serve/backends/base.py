"""What a worker requires of a backend."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from megavit.serve.settings import PredictOptions


class Backend(Protocol):
    """A model that computes predictions. `Any` stands for a preprocessed image, which only the backend looks into.

    Attributes:
        max_batch_bytes: limit on the bytes of the images of a batch, unless a single image has more.
    """

    max_batch_bytes: float

    def describe(self) -> dict[str, Any]:
        """Return the model's entry in `GET /models`, without its name."""
        ...

    def warm_up(self) -> float:
        """Predict a blank image, so that the first request does not wait; return the seconds that the next one took."""
        ...

    def preprocess(self, data: bytes, options: PredictOptions, max_pixels: int) -> Any:
        """Return the image in the bytes of an image file. Called from several threads.

        Raises:
            TooManyPixelsError: before anything is decoded.
            ImageError: if it cannot be read.
            ConfigError: for options that the model cannot fulfil.
        """
        ...

    def nbytes(self, image: Any) -> int:
        """Return the memory that the image takes until it is answered."""
        ...

    def predict(self, images: Sequence[Any], options: Sequence[PredictOptions]) -> list[dict[str, Any]]:
        """Return the prediction for each image, as plain JSON types."""
        ...

    def explain(self, image: Any) -> bytes:
        """Return a PNG of the image overlaid with a heat map of what the prediction is based on."""
        ...


def time_prediction(backend: Backend, blank: Any) -> float:
    """Predict an image twice and return the seconds that the second time took."""
    backend.predict([blank], [PredictOptions()])
    started = time.perf_counter()
    backend.predict([blank], [PredictOptions()])
    return time.perf_counter() - started


def group_by_options(options: Sequence[PredictOptions]) -> Iterator[tuple[int, float | None, list[int]]]:
    """Yield each combination of `top` and `coverage` with the indices of its images."""
    groups: dict[tuple[int, float | None], list[int]] = defaultdict(list)
    for index, one in enumerate(options):
        groups[one.top, one.coverage].append(index)
    for (top, coverage), indices in groups.items():
        yield top, coverage, indices
