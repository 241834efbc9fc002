"""What the pixels of each kind of Pillow picture are."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from megavit.data.decode.tensor import decode, from_pillow
from megavit.errors import ImageError
from tests.helpers.difficult_images import encode_image, make_image

GRAY = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)


def tiff(pixels: bytes, *, side: int, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A gray TIFF made by hand: Pillow writes no 12 bits and no white zero."""
    tags = {256: side, 257: side, 258: bits, 259: 1, 262: photometric, 277: 1, 278: side, 279: len(pixels)}
    tags |= {273: 8 + 2 + 12 * 10 + 4, 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4) + pixels


def on_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = alpha[..., None] / 255 if color.ndim == 3 else alpha / 255
    return np.rint(color * alpha + 255 * (1 - alpha)).astype(np.uint8)


def last(image) -> np.ndarray:
    """(C, H, W) as (H, W, C), or (H, W) where C = 1."""
    array = image.permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


@pytest.mark.parametrize(
    "data",
    [
        encode_image(Image.fromarray(DEEP), "PNG"),
        encode_image(Image.fromarray(DEEP), "TIFF"),
        encode_image(Image.fromarray(DEEP), "PPM"),
        encode_image(Image.frombytes("I;16B", (16, 16), DEEP.astype(">u2").tobytes()), "TIFF"),
        tiff((65535 - DEEP).astype("<u2").tobytes(), side=16, bits=16, photometric=0),
        tiff((DEEP / 65535).astype("<f4").tobytes(), side=16, bits=32, sample_format=3),
        tiff((1 - DEEP / 65535).astype("<f4").tobytes(), side=16, bits=32, photometric=0, sample_format=3),
    ],
    ids=["png", "tiff", "pgm", "tiff big-endian", "tiff white is zero", "float", "float white is zero"],
)
def test_deep_gray_is_rescaled_and_not_clipped(data):
    assert np.array_equal(last(decode(data)), GRAY)


def test_16_bits_are_rounded():
    values = np.array([[0, 128, 129, 385, 386, 65535]], dtype=np.uint16)
    assert last(from_pillow(Image.fromarray(values))).tolist() == [[0, 0, 1, 1, 2, 255]]


def test_12_bits_are_rescaled_by_their_own_range():
    white, black = b"\xff\xff\xff", b"\0\0\0"
    assert last(decode(tiff(white + black, side=2, bits=12))).tolist() == [[255, 255], [0, 0]]


def test_one_clear_value_of_16_bit_gray_becomes_white():
    data = encode_image(Image.fromarray(DEEP), "PNG", transparency=257 * 7)
    expected = GRAY.copy()
    expected[GRAY == 7] = 255
    assert np.array_equal(last(decode(data)), expected)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((2, 2), 1.5, np.float32), "between 0 and 1, but these range from 1.5 to 1.5"),
        (np.full((2, 2), -0.5, np.float32), "between 0 and 1, but these range from -0.5 to -0.5"),
        (np.full((2, 2), np.inf, np.float32), "not finite"),
        (np.full((2, 2), 7, np.int32), "32-bit integers have no known scale"),
    ],
)
def test_a_scale_that_nobody_knows_is_refused(values, said):
    with pytest.raises(ImageError, match=said):
        from_pillow(Image.fromarray(values))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "I;16"])
def test_what_is_stored_as_gray_has_one_channel(mode):
    assert from_pillow(Image.new(mode, (3, 2))).shape == (1, 2, 3)


@pytest.mark.parametrize("mode", ["P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_everything_else_has_three(mode):
    assert from_pillow(Image.new(mode, (3, 2))).shape == (3, 2, 3)


def test_one_bit_is_black_or_white():
    image = Image.fromarray(GRAY > 99)
    assert np.array_equal(last(from_pillow(image)), np.where(GRAY > 99, 255, 0))


def test_cmyk_is_as_pillow_converts_it():
    image = Image.fromarray(make_image()).convert("CMYK")
    assert np.array_equal(last(from_pillow(image)), np.array(image.convert("RGB")))


def test_cmyk_jpegs_are_not_inverted():
    image = Image.fromarray(make_image()).convert("CMYK")
    read = last(decode(encode_image(image, "JPEG", quality=100))).astype(int)
    assert np.abs(read - np.array(image.convert("RGB"))).max() <= 8


def test_alpha_is_put_on_white():
    color, alpha = make_image(16, 16), GRAY
    image = Image.fromarray(np.dstack([color, alpha]))
    assert np.array_equal(last(from_pillow(image)), on_white(color, alpha))


def test_alpha_of_gray_is_put_on_white():
    gray = GRAY[::-1]
    image = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(GRAY)])
    assert np.array_equal(last(from_pillow(image)), on_white(gray, GRAY))


def test_alpha_that_is_multiplied_in_already_is_not_multiplied_twice():
    image = Image.new("RGBA", (1, 1), (200, 100, 0, 128))
    assert np.abs(last(from_pillow(image.convert("RGBa"))).astype(int) - last(from_pillow(image))).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_clear_color_of_a_palette_becomes_white(kind):
    places = np.array([[0, 1], [1, 2]], dtype=np.uint8)
    image = Image.fromarray(places).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    data = encode_image(image, kind, transparency=1)
    assert last(decode(data)).tolist() == [[[10, 20, 30], [255, 255, 255]], [[255, 255, 255], [70, 80, 90]]]


def test_the_clear_color_of_rgb_becomes_white():
    rgb = make_image()
    data = encode_image(rgb, "PNG", transparency=tuple(map(int, rgb[3, 3])))
    expected = rgb.copy()
    expected[(rgb == rgb[3, 3]).all(-1)] = 255
    assert np.array_equal(last(decode(data)), expected)


def test_unused_fourth_channel_is_not_taken_for_alpha():
    image = Image.fromarray(make_image()).convert("RGBX")
    assert np.array_equal(last(from_pillow(image)), make_image())


def test_an_open_file_and_its_bytes_give_the_same():
    data = encode_image(Image.fromarray(DEEP), "PNG")
    assert np.array_equal(from_pillow(Image.open(io.BytesIO(data))), decode(data))
