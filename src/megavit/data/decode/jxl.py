"""Read JPEG XL images by the optional package pylibjxl."""

import numpy as np
from PIL import Image

from megavit.data.decode.color_modes import to_array
from megavit.data.decode.extras import import_extra
from megavit.data.decode.limits import MAX_PIXELS, check_image_size
from megavit.errors import ImageError

JXL_SIGNATURES = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
"""Starts of a bare codestream and of one in a container (ISO/IEC 18181-2)."""
MAX_SECONDS = 60.0  # largest time of decoding, which a small file can make very long
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def read_jxl(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a JPEG XL image as uint8 (H, W, C), upright, with transparency composited on white.

    Raises:
        ImageError: if it exceeds the limits, is animated, or pylibjxl is not installed.
    """
    pylibjxl = import_extra("pylibjxl", "jxl", "JPEG XL")
    header = pylibjxl.probe(data)
    check_image_size(header["width"], header["height"], max_pixels)
    if header["have_animation"]:
        raise ImageError("an animated JPEG XL is not supported: save one image of it")
    if header["channels"] not in _MODES:
        raise ImageError(f"a JPEG XL of {header['channels']} channels is not supported: save it as gray or RGB")
    try:
        pixels = np.asarray(pylibjxl.decode(data, timeout=MAX_SECONDS))
    except TimeoutError:
        raise ImageError(f"decoding takes longer than {MAX_SECONDS:.0f} seconds") from None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    mode = _MODES[pixels.shape[2]]
    pixels = to_array(Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels
