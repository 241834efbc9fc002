"""Read the X of scikit-learn as images: arrays of pixels, rows of numbers, or paths."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
    validate_data,  # type: ignore[attr-defined]  # stubs of an older version
)

PixelRange = tuple[float, float]


def is_paths(X: Any) -> bool:
    """Return whether X is a sequence of paths, or of PIL images and arrays of different sizes."""
    if isinstance(X, np.ndarray) or hasattr(X, "iloc"):
        first = np.asarray(X).ravel()[:1]
        return bool(len(first)) and isinstance(first[0], str | os.PathLike)
    return isinstance(X, list | tuple) and bool(X) and isinstance(X[0], str | os.PathLike | Image | np.ndarray)


def read_images(estimator: BaseEstimator, X: Any, image_shape: Sequence[int] | None, *, reset: bool) -> Any:
    """Return X as an array (N, height, width[, channels]), or as a list if its images are no such array.

    Args:
        image_shape: shape of an image in a row of numbers, of which one size may be -1.
        reset: whether X is for training, so that its number of columns is to be remembered.

    Raises:
        ValueError: if X is no images, or has other rows than those of the training.
    """
    if is_paths(X):
        return list(np.asarray(X).ravel()) if hasattr(X, "iloc") else list(X)
    if image_shape is not None:
        rows = validate_data(estimator, X, reset=reset, dtype="numeric")
        return rows.reshape(len(rows), *image_shape)
    X = check_array(X, allow_nd=True, ensure_2d=False, dtype="numeric")
    if X.ndim not in (3, 4):
        raise ValueError(
            f"X must be images (N, height, width) or (N, height, width, channels), or paths; got an array of shape "
            f"{X.shape}. Rows of numbers need image_shape, the shape of an image, such as (8, 8)"
        )
    return X


def read_targets(images: Any, y: Any) -> NDArray[Any]:
    """Return y as an array (N,), or raise a ValueError if it has no finite value for each image."""
    if y is None:
        raise ValueError("an estimator of images requires y to be passed, but the target y is None")
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name="y")
    check_consistent_length(images, y)
    return y


def find_pixel_range(images: Any, pixel_range: PixelRange | str | None) -> PixelRange | None:
    """Return the values of black and white; None for uint8 and for floats from 0 to 1.

    Raises:
        ValueError: if there are other values, and no range is given.
    """
    if not isinstance(images, np.ndarray):
        return None
    if isinstance(pixel_range, str):
        if pixel_range != "fit":
            raise ValueError(f"pixel_range must be (low, high), 'fit' or None, got {pixel_range!r}")
        low, high = float(images.min()), float(images.max())
        return low, high if high > low else low + 1.0
    if pixel_range is not None:
        low, high = pixel_range
        if not low < high:
            raise ValueError(f"pixel_range must be (low, high) with low below high, got {pixel_range!r}")
        return float(low), float(high)
    if images.dtype == np.uint8 or (images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1):
        return None
    raise ValueError(
        f"X must be uint8, or floats from 0 to 1; got {images.dtype} from {images.min():g} to {images.max():g}: set "
        "pixel_range to the values of black and white, such as (0, 16), or to 'fit' to take them from the training "
        "images"
    )


def scale_pixels(images: Any, pixel_range: PixelRange | None) -> Any:
    """Return images with black at 0 and white at 1, beyond which values are cut off; unchanged without a range."""
    if pixel_range is None or not isinstance(images, np.ndarray):
        return images
    low, high = pixel_range
    scaled: NDArray[np.float64] = (images.astype(np.float64) - low) / (high - low)
    return scaled.clip(0, 1).astype(np.float32)
