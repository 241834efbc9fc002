"""Read DICOM images by the optional package pydicom, as a viewer shows them."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from megavit.data.decode.dicom_structure import find_pixels
from megavit.data.decode.extras import import_extra
from megavit.data.decode.limits import MAX_PIXELS, check_image_size
from megavit.errors import ImageError

DecodeJpeg = Callable[[bytes], np.ndarray]
"""A function that decodes a JPEG to uint8 (H, W, C)."""

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422")
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_RLE, _JPEG = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"
"""Transfer syntaxes (DICOM PS3.6, annex A)."""
_MAX_RLE_BYTES = 2**24  # largest run-length encoded image, which may expand to 64 times its size


def is_dicom(data: bytes) -> bool:
    """Return whether a file is DICOM, by its signature after the preamble (PS3.10, section 7.1)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, decode_jpeg: DecodeJpeg, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a DICOM image of one frame as uint8 (H, W, 1) or (H, W, 3).

    Gray values are rescaled by slope and intercept, and brought to 8 bits by the first window, by the VOI lookup
    table, or else from the full range of the stored bits (PS3.3, section C.11). MONOCHROME1 is inverted, so that 0 is
    always black.

    Raises:
        ImageError: if it exceeds the limits, has several frames, or is of a kind that is not supported, or if pydicom
            is not installed.
    """
    pydicom = import_extra("pydicom", "dicom", "DICOM")
    found = find_pixels(pydicom, data)
    header = found.header
    if "Rows" not in header or "Columns" not in header or not found.size:
        raise ImageError("the DICOM file has no image")
    check_image_size(int(header.Columns), int(header.Rows), max_pixels)
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"the DICOM file has {frames} frames: save each as a file of its own")
    interpretation, bits = str(header.PhotometricInterpretation), int(header.BitsAllocated)
    if interpretation not in (*_GRAY, *_COLOR, "PALETTE COLOR"):
        raise ImageError(f"DICOM of photometric interpretation {interpretation} is not supported: save it as RGB")
    if bits not in (1, 8, 16):
        raise ImageError(f"DICOM of {bits} bits is not supported: save it with 8 or 16 bits")
    syntax = str(header.file_meta.TransferSyntaxUID)
    # Run-length encoding adds at most one byte to 128, but expands 2 bytes to 128.
    raw_bytes = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * bits // 8
    is_rle = syntax == _RLE and found.size <= min(_MAX_RLE_BYTES, raw_bytes * 2 + 2**12)
    if syntax == _JPEG and interpretation != "RGB":
        values = decode_jpeg(found.read_frame(data))
        return _to_gray(pydicom, values[..., 0], header) if interpretation in _GRAY else values
    if syntax not in _UNCOMPRESSED and not is_rle:
        name = pydicom.uid.UID(syntax).name
        raise ImageError(f"the pixels of the DICOM file are compressed as {name}: save it uncompressed")
    dataset = pydicom.dcmread(io.BytesIO(data[: found.end]))
    return _to_uint8(pydicom, np.asarray(dataset.pixel_array), dataset, interpretation)


def _to_uint8(pydicom: Any, values: np.ndarray, dataset: Any, interpretation: str) -> np.ndarray:
    if interpretation in _GRAY:
        return _to_gray(pydicom, values, dataset)
    if interpretation == "PALETTE COLOR":
        from_palette = pydicom.pixels.apply_color_lut(values, dataset)
        return _scale(from_palette.astype(np.float32), 0, np.iinfo(from_palette.dtype).max)
    return (
        values if values.dtype == np.uint8 else _scale(values.astype(np.float32), 0, 2 ** int(dataset.BitsStored) - 1)
    )


def _to_gray(pydicom: Any, stored: np.ndarray, header: Any) -> np.ndarray:
    bits, is_signed = int(header.BitsStored), bool(header.get("PixelRepresentation", 0))
    values = pydicom.pixels.apply_modality_lut(stored, header)
    if "WindowCenter" in header and "WindowWidth" in header:
        gray = _window(values.astype(np.float32), header)
    elif header.get("VOILUTSequence"):
        table = header.VOILUTSequence[0]
        gray = _scale(
            pydicom.pixels.apply_voi(values, header).astype(np.float32), 0, 2 ** int(table.LUTDescriptor[2]) - 1
        )
    else:
        low = -(2 ** (bits - 1)) if is_signed else 0
        gray = _scale(stored.astype(np.float32), low, low + 2**bits - 1)
    return (255 - gray if header.PhotometricInterpretation == "MONOCHROME1" else gray)[..., None]


def _window(values: np.ndarray, header: Any) -> np.ndarray:
    """Apply the first window to values, by its function (PS3.3, section C.11.2.1.2)."""
    center, width = (float(np.atleast_1d(header[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = str(header.get("VOILUTFunction") or "LINEAR")
    if function == "SIGMOID":
        return _scale(1 / (1 + np.exp(-4 * (values - center) / width)), 0, 1)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width <= 0:
        return np.where(values <= center, np.uint8(0), np.uint8(255))
    return _scale(values, center - width / 2, center + width / 2)


def _scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ImageError("the rescaled values of the DICOM file are not finite")
    return np.rint((values - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
