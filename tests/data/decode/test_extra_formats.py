"""HEIC, JPEG XL and DICOM, read by optional packages, give the pixels of their PNG twins, or an ImageError.

The files in `heic` were written by pillow-heif with the encoder x265, lossless and 4:4:4, as pi-heif has no encoder.
"""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from megavit.config.recipe import DataRecipe
from megavit.data.decode import limits
from megavit.data.decode.tensor import decode, decode_with_size
from megavit.data.load import load_data
from megavit.errors import DataError, ImageError
from tests.helpers.difficult_images import encode_image, make_image

pytest.importorskip("pi_heif")
pylibjxl = pytest.importorskip("pylibjxl")
pydicom = pytest.importorskip("pydicom")
uid = pydicom.uid

RGB = make_image()
GRAY = np.asarray(Image.fromarray(RGB).convert("L"))
CLEAR = np.dstack([RGB, GRAY])
HEIC = Path(__file__).parent / "heic"
PACKAGES = {"heic": "pi_heif", "jxl": "pylibjxl", "dicom": "pydicom"}


def make_jxl(pixels: np.ndarray) -> bytes:
    return pylibjxl.encode(np.ascontiguousarray(pixels), lossless=True)


def make_dicom(
    pixels: np.ndarray, photometric: str = "MONOCHROME2", syntax=uid.ExplicitVRLittleEndian, **tags
) -> bytes:
    dataset = pydicom.dataset.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if syntax == uid.RLELossless else syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in tags.items():
        setattr(dataset, name, value)
    if syntax == uid.RLELossless:
        dataset.compress(uid.RLELossless)
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


def make_jpeg_dicom(pixels: np.ndarray, photometric: str) -> bytes:
    jpeg = (
        encode_image(pixels, "JPEG", quality=100, subsampling=0) if pixels.ndim == 3 else encode_image(pixels, "JPEG")
    )
    framed = pydicom.encaps.encapsulate([jpeg])
    dataset = pydicom.dcmread(io.BytesIO(make_dicom(pixels, photometric)))
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    dataset.PixelData = framed
    dataset["PixelData"].is_undefined_length = True
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


def png_twin(pixels: np.ndarray) -> torch.Tensor:
    return decode(encode_image(pixels, "PNG"))


def largest_difference(image: torch.Tensor, pixels: np.ndarray) -> int:
    twin = png_twin(pixels)
    assert image.dtype == torch.uint8 and image.shape[1:] == twin.shape[1:]
    return int((image.int() - twin.int()).abs().max())


@pytest.mark.parametrize(
    ("name", "pixels"),
    [("plain", RGB), ("gray", GRAY), ("clear", CLEAR), ("turned", np.ascontiguousarray(np.rot90(RGB, -1)))],
)
def test_heic_gives_the_pixels_of_a_png_upright_and_on_white(name, pixels):
    # Colors are stored as luma and chroma, which rounds.
    assert largest_difference(decode(HEIC / f"{name}.heic"), pixels) <= 2


@pytest.mark.parametrize("pixels", [RGB, GRAY, CLEAR])
def test_jpeg_xl_gives_the_pixels_of_a_png(pixels):
    assert largest_difference(decode(make_jxl(pixels)), pixels) == 0


def test_jpeg_xl_from_a_jpeg_has_its_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = pylibjxl.jpeg_to_jxl(encode_image(RGB, "JPEG", quality=95, exif=exif.tobytes()))
    assert decode(data).shape == (3, 16, 24)


DICOMS = {
    "8 bits": (make_dicom(GRAY), GRAY),
    "implicit": (make_dicom(GRAY, syntax=uid.ImplicitVRLittleEndian), GRAY),
    "run lengths": (make_dicom(GRAY, syntax=uid.RLELossless), GRAY),
    "16 bits": (make_dicom(GRAY.astype(np.uint16) * 257), GRAY),
    "12 bits of 16": (
        make_dicom((GRAY.astype(np.uint32) * 4095 // 255).astype(np.uint16), BitsStored=12, HighBit=11),
        GRAY,
    ),
    "signed": (make_dicom((GRAY.astype(np.int32) * 257 - 32768).astype(np.int16)), GRAY),
    "0 is white": (make_dicom(GRAY, "MONOCHROME1"), 255 - GRAY),
    "color": (make_dicom(RGB, "RGB"), RGB),
    "a window after rescaling": (
        make_dicom(
            GRAY.astype(np.int16),
            RescaleSlope=2,
            RescaleIntercept=-1000,
            WindowCenter=[-1000 + 255 + 0.5, 40],
            WindowWidth=[511, 400],
        ),
        GRAY,
    ),
    "an exact window": (
        make_dicom(GRAY, WindowCenter=127.5, WindowWidth=255, VOILUTFunction="LINEAR_EXACT"),
        GRAY,
    ),
    "a window that cuts": (
        make_dicom(GRAY, WindowCenter=64, WindowWidth=128, VOILUTFunction="LINEAR_EXACT"),
        (GRAY.astype(np.int32) * 255 / 128).round().clip(0, 255).astype(np.uint8),
    ),
}


@pytest.mark.parametrize("name", DICOMS)
def test_dicom_gives_the_pixels_of_a_png(name):
    data, pixels = DICOMS[name]
    image = decode(data)
    assert image.shape[0] == (3 if pixels.ndim == 3 else 1)
    assert largest_difference(image, pixels) == 0


@pytest.mark.parametrize(("pixels", "photometric"), [(GRAY, "MONOCHROME2"), (RGB, "YBR_FULL_422")])
def test_jpeg_in_dicom_is_decoded_as_a_jpeg_file(pixels, photometric):
    assert largest_difference(decode(make_jpeg_dicom(pixels, photometric)), pixels) <= 16


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (make_dicom(GRAY, NumberOfFrames=2), "the DICOM file has 2 frames: save each as a file of its own"),
        (make_dicom(RGB, "HSV"), "photometric interpretation HSV is not supported: save it as RGB"),
        (make_dicom(GRAY.astype(np.uint32)), "DICOM of 32 bits is not supported: save it with 8 or 16 bits"),
        (make_dicom(GRAY, RescaleSlope=float("inf"), RescaleIntercept=0, WindowCenter=1, WindowWidth=2), "not finite"),
        (make_jpeg_dicom(RGB, "RGB"), r"compressed as JPEG Baseline.*: save it uncompressed"),
        (b"\0" * 128 + b"DICM" + b"1.2.840.10008.1.2.1.99", "a deflated DICOM file is not supported"),
    ],
)
def test_dicom_of_other_kinds_is_refused_with_a_reason(data, said):
    with pytest.raises(ImageError, match=said):
        decode(data)


def test_a_dicom_file_with_a_million_elements_is_refused_at_once():
    data = make_dicom(GRAY)
    at = data.index(b"\x28\x00\x02\x00US")  # the first element of the image
    with pytest.raises(ImageError, match=r"what precedes the pixels exceeds the limit of 4 MiB|damaged"):
        decode(data[:at] + b"\x09\x00\x10\x00LO\x00\x00" * 2**20 + data[at:])


def made(kind: str, pixels: np.ndarray = GRAY) -> bytes:
    return {"heic": lambda: (HEIC / "gray.heic").read_bytes(), "jxl": lambda: make_jxl(pixels)}.get(
        kind, lambda: make_dicom(pixels)
    )()


@pytest.mark.parametrize("kind", PACKAGES)
def test_limits_are_those_of_the_other_formats(kind):
    data = made(kind)
    assert decode_with_size(data, max_pixels=24 * 16)[1] == (24, 16)
    with pytest.raises(limits.TooManyPixelsError, match="16 × 24 pixels exceed the limit of 383"):
        decode_with_size(data, max_pixels=24 * 16 - 1)


@pytest.mark.parametrize("kind", ["jxl", "dicom"])
def test_a_long_strip_is_refused(kind):
    with pytest.raises(ImageError, match="one side is more than 100 times the other"):
        decode(made(kind, np.zeros((2, 300), np.uint8)))


@pytest.mark.parametrize("kind", PACKAGES)
def test_damaged_files_are_read_or_refused(kind):
    data = made(kind)
    rng = np.random.default_rng(0)
    for step in range(60):
        damaged = bytearray(data[: rng.integers(1, len(data))] if step % 3 == 0 else data)
        for place in rng.integers(0, len(damaged), rng.integers(1, 5)):
            damaged[place] ^= 1 << rng.integers(0, 8)
        try:
            image = decode(bytes(damaged))
        except ImageError as error:
            assert error.reason
        else:
            assert image.dtype == torch.uint8 and image.ndim == 3


@pytest.mark.parametrize("kind", PACKAGES)
def test_without_its_package_a_file_is_skipped_with_the_command_that_installs_it(kind, tmp_path, monkeypatch):
    for index in range(8):
        for label in ("cat", "dog"):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{index}.png").write_bytes(encode_image(np.roll(GRAY, index), "PNG"))
    (tmp_path / "cat" / f"0.{kind}").write_bytes(made(kind))
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    (skipped,) = load_data(tmp_path, DataRecipe()).skipped
    assert skipped.reason.endswith(f'pip install "megavit[{kind}]"')
    for index in range(8):
        for label in ("cat", "dog"):
            (tmp_path / label / f"a{index}.{kind}").write_bytes(made(kind))
            (tmp_path / label / f"b{index}.{kind}").write_bytes(made(kind))
    with pytest.raises(DataError, match=rf'33 of the 49 images of .* pip install "megavit\[{kind}\]"'):
        load_data(tmp_path, DataRecipe())
