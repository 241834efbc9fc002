"""Convert Pillow images of every mode to 8-bit gray or RGB."""

import numpy as np
from PIL import Image, TiffImagePlugin

from megavit.errors import ImageError

_GRAY = ("1", "L", "LA", "La")
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF 6.0, section 8


def to_array(image: Image.Image) -> np.ndarray:
    """Convert a loaded image to uint8 (H, W) if it is stored as gray, else (H, W, 3).

    Transparency of any kind is composited on white. 16-bit images are rescaled, so that 65,535 becomes 255; floats
    must be in [0, 1]. Color profiles are not applied.

    Raises:
        ImageError: for 32-bit integers, whose scale is unknown, and floats outside [0, 1].
    """
    if image.mode == "F":
        return _from_float(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(image)
    mode = "L" if image.mode in _GRAY else "RGB"
    if image.has_transparency_data:
        return np.array(composite_on_white(image, mode))
    return np.array(image if image.mode == mode else image.convert(mode))


def composite_on_white(image: Image.Image, mode: str) -> Image.Image:
    """Composite an image on white by its alpha channel; `mode` is "L" or "RGB"."""
    image = image.convert("LA" if mode == "L" else "RGBA")
    canvas = Image.new(mode, image.size, 255 if mode == "L" else (255, 255, 255))
    canvas.paste(image.convert(mode), mask=image.getchannel("A"))
    return canvas


def rescale_to_uint8(values: np.ndarray, max_value: int) -> np.ndarray:
    """Rescale integers in [0, `max_value`], where `max_value` is at most 65,535, to uint8 with rounding."""
    return ((values.astype(np.uint32) * 255 + max_value // 2) // max_value).astype(np.uint8)


def unit_to_uint8(values: np.ndarray) -> np.ndarray:
    """Rescale floats in [0, 1] to uint8 with rounding, or raise an ImageError for values outside."""
    if not np.isfinite(values).all():
        raise ImageError("floating-point pixels must be between 0 and 1, but some are not finite (NaN or infinity)")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ImageError(f"floating-point pixels must be between 0 and 1, but these range from {low:.4g} to {high:.4g}")
    return np.rint(values * 255).astype(np.uint8)


def _from_float(image: Image.Image) -> np.ndarray:
    gray = unit_to_uint8(np.asarray(image))
    return 255 - gray if _zero_is_white(image) else gray


def _from_16_bit(image: Image.Image) -> np.ndarray:
    # In mode I, only these formats are known to have 16 bits.
    if image.mode == "I" and image.format not in ("PPM", "PNG"):
        raise ImageError("32-bit integers have no known scale: save the image with 8 or 16 bits")
    values, max_value = np.asarray(image), 65_535
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_BITS_PER_SAMPLE) == (12,):
        max_value = 4_095
    if values.min() < 0 or values.max() > max_value:
        raise ImageError(
            f"pixels must be between 0 and {max_value}, but these range from {values.min()} to {values.max()}"
        )
    if _zero_is_white(image):
        values = max_value - values
    gray = rescale_to_uint8(values, max_value)
    transparent = image.info.get("transparency")
    return gray if transparent is None else np.where(values == transparent, np.uint8(255), gray)


def _zero_is_white(image: Image.Image) -> bool:
    """Return whether 0 is white in a TIFF, which Pillow inverts up to 8 bits only."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0
