"""Decoding: right pixels, or an ImageError, and nothing else."""

import io
import os
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from megavit.data.decode import image_file as module
from megavit.data.decode import limits
from megavit.data.decode.image_file import read_file
from megavit.data.decode.tensor import decode, decode_with_size, from_array, from_pillow
from megavit.data.image_dataset import preprocess
from megavit.errors import DataError, ImageError
from tests.helpers.difficult_images import TURNS, encode_image, make_exif, make_image
from tests.helpers.sizes import sized

RGB = make_image()
UPRIGHT = torch.from_numpy(RGB).permute(2, 0, 1)
KINDS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"] + ["AVIF"] * ("AVIF" in Image.SAVE)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_bytes_and_files_give_the_pixels_that_were_saved(kind, tmp_path):
    data = encode_image(RGB, kind)
    path = tmp_path / "no_suffix_needed"
    path.write_bytes(data)
    for image in (decode(data), decode(path)):
        assert image.dtype == torch.uint8
        assert torch.equal(image, UPRIGHT)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_gives_the_upright_picture(kind, orientation):
    stored = np.ascontiguousarray(TURNS[orientation](RGB))
    how = {
        "PNG": {"exif": make_exif(orientation)},
        "WEBP": {"exif": make_exif(orientation), "lossless": True},
        "TIFF": {"tiffinfo": {274: orientation}},
    }
    assert torch.equal(decode(encode_image(stored, kind, **how[kind])), UPRIGHT)


@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation_of_a_jpeg_gives_the_upright_picture(orientation):
    blocks = np.kron(np.array([[0, 255, 0], [255, 255, 0]], np.uint8), np.ones((16, 16), np.uint8))
    stored = np.ascontiguousarray(TURNS[orientation](blocks[..., None])[..., 0])
    image = decode(encode_image(stored, "JPEG", quality=100, exif=make_exif(orientation)))
    assert torch.equal(image[0], torch.from_numpy(blocks))


def test_an_unknown_orientation_turns_nothing():
    assert torch.equal(decode(encode_image(RGB, "PNG", exif=make_exif(9))), UPRIGHT)


def test_the_first_frame_is_taken():
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    for kind in ("GIF", "PNG", "TIFF"):
        image = decode(encode_image(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert image[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_says_nothing_and_the_content_everything(kind, tmp_path):
    path = tmp_path / "image.txt"
    path.write_bytes(encode_image(RGB, kind))
    assert decode(path).shape == UPRIGHT.shape


def _valid_files() -> list[bytes]:
    small = Image.fromarray(RGB)
    exif = make_exif(6)
    return [
        *(encode_image(RGB, kind) for kind in KINDS),
        encode_image(small, "JPEG", exif=exif, progressive=True),
        encode_image(small.quantize(8), "PNG", transparency=2),
        encode_image(small, "TIFF", compression="tiff_lzw"),
        encode_image(small.convert("1"), "TIFF", compression="group4"),
        encode_image(small, "GIF", save_all=True, append_images=[small.rotate(90)]),
    ]


def test_damaged_files_are_read_or_refused_and_nothing_else():
    rng = np.random.default_rng(20)
    files = _valid_files()
    outcomes = {"read": 0, "refused": 0}
    for number in range(360):
        data = bytearray(files[number % len(files)])
        if rng.random() < 0.3:
            del data[rng.integers(1, len(data)) :]
        for place in rng.integers(0, len(data), rng.integers(0, 6)):
            data[place] ^= 1 << rng.integers(0, 8)
        try:
            image = decode(bytes(data))
        except ImageError as error:
            assert error.reason
            outcomes["refused"] += 1
        else:
            assert image.dtype == torch.uint8
            assert image.ndim == 3
            outcomes["read"] += 1
    assert min(outcomes.values()) > 30  # the damage is neither harmless nor always fatal


@given(st.binary(max_size=200))
def test_any_bytes_behind_any_signature_are_read_or_refused(tail):
    for data in (tail, *(head + tail for head in (b"P6 4 4 255\n", b"BM", b"GIF89a", b"II*\0", b"RIFF"))):
        try:
            assert decode(data).dtype == torch.uint8
        except ImageError as error:
            assert error.reason


def test_every_flipped_bit_of_a_png_is_refused_or_harmless():
    # Of this kind of picture Pillow alone lets a quarter of the damaged ones pass.
    slope = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    data = encode_image(slope, "PNG")
    for place in range(8, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        try:
            image = decode(bytes(damaged))
        except ImageError:
            continue
        assert np.array_equal(image[0], slope), place


def test_an_image_error_is_an_error_of_data_and_a_value_error():
    with pytest.raises(DataError):
        decode(b"")
    with pytest.raises(ValueError, match="empty"):
        decode(b"")


@pytest.mark.parametrize(
    ("size", "said"),
    [((2**15 + 1, 400), "per side"), ((20_000, 10_000), "million"), ((101, 1), "100 times"), ((1, 101), "100 times")],
)
def test_limits_are_checked_before_any_pixel_is_decoded(size, said, monkeypatch):
    def never(*_):
        raise AssertionError("decoded")

    data = encode_image(Image.new("1", size), "PNG")
    monkeypatch.setattr(module, "to_array", never)
    monkeypatch.setattr(Image.Image, "load", never)
    with pytest.raises(ImageError, match=said):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "npy"])
def test_whoever_decodes_may_set_a_lower_limit_of_pixels(kind):
    content = io.BytesIO()
    if kind == "npy":
        np.save(content, np.zeros((50, 40), np.uint8))
    else:
        Image.new("L", (40, 50)).save(content, format=kind)
    assert decode_with_size(content.getvalue(), max_pixels=2000)[1] == (50, 40)
    with pytest.raises(limits.TooManyPixelsError, match="40 × 50 pixels exceed the limit of 1,999"):
        decode_with_size(content.getvalue(), max_pixels=1999)


def test_the_limits_themselves_are_allowed():
    assert decode(encode_image(Image.new("L", (100, 1)), "PNG")).shape == (1, 1, 100)


def test_pictures_in_digits_are_read_where_they_are_short():
    assert decode(b"P2 2 1 255 0 200")[0].tolist() == [[0, 200]]
    with pytest.raises(ImageError, match="PNM file exceeds the limit of 4 MiB"):
        decode(b"P2 2000 2000 255 " + b"0 " * 2_100_000)


def test_what_pillow_logs_is_not_printed():
    script = "import logging, megavit.data.decode.image_file; [logging.getLogger(name).error(name) for name in {}]"
    names = ["PIL.TiffImagePlugin", "tifffile"]
    done = subprocess.run([sys.executable, "-c", script.format(names)], capture_output=True, check=True)
    assert done.stderr == b""


def test_a_file_above_the_limit_is_not_even_opened(tmp_path):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(limits.MAX_BYTES + 1)
    with pytest.raises(ImageError, match="limit of 256 MiB"):
        decode(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.png", "no such file"),
        ("folder", "it is a folder"),
        ("pipe", "not a regular file"),
        ("x" * 300, "file name too long"),
        ("nul\0l", "not a valid file name"),
        ("file/within", "not a directory"),
    ],
)
def test_what_is_no_file_is_refused_with_its_reason(name, reason, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError) as caught:
        read_file(tmp_path / name)
    assert caught.value.reason == reason


def test_devices_are_not_opened():
    with pytest.raises(ImageError, match="not a regular file"):
        decode(Path("/dev/zero"))


def test_a_file_that_is_not_ours_to_read():
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which only its owner may enter
        Path(folder).chmod(0o755)
        open_one, closed_one = Path(folder, "open.png"), Path(folder, "closed.png")
        for path, mode in ((open_one, 0o644), (closed_one, 0)):
            path.write_bytes(encode_image(RGB, "PNG"))
            path.chmod(mode)
        decode(open_one)
        with get_context("fork").Pool(1, initializer=_give_up_root) as pool:
            assert pool.map(_outcome, [open_one, closed_one]) == ["read", "no permission to read it"]
        assert stat.S_IMODE(closed_one.stat().st_mode) == 0


def _give_up_root() -> None:
    if os.geteuid() == 0:
        os.setuid(65534)


def _outcome(path: Path) -> str:
    try:
        decode(path)
    except ImageError as error:
        return error.reason
    return "read"


def test_pillows_warnings_are_not_heard_and_the_filters_come_back():
    noisy = encode_image(RGB, "JPEG", exif=make_exif(6)[:-4])
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(noisy)).getexif()
        assert heard, "this file no longer makes Pillow warn: the test needs another"
        heard.clear()
        assert decode(noisy).shape[0] == 3
        assert not heard
    assert warnings.filters == before


def test_threads_decode_together_and_leave_the_filters_as_they_were():
    before = list(warnings.filters)
    data = encode_image(RGB, "PNG")
    together = threading.Barrier(4)

    def work(_):
        together.wait(timeout=30)
        return [torch.equal(decode(data), UPRIGHT) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        assert all(map(all, pool.map(work, range(4))))
    assert warnings.filters == before


def test_pillow_pictures_are_turned_upright_too():
    image = Image.fromarray(RGB)
    image.getexif()[0x0112] = 3
    assert torch.equal(from_pillow(image), UPRIGHT.flip(1, 2))


def test_a_pillow_picture_that_cannot_be_loaded_is_refused(tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(encode_image(RGB, "JPEG")[:-10])
    with Image.open(path) as image, pytest.raises(ImageError, match="truncated"):
        from_pillow(image)


def test_a_pillow_picture_without_pixels_is_refused():
    with pytest.raises(ImageError, match="no pixels"):
        from_pillow(Image.new("RGB", (0, 4)))


def test_arrays_are_channels_last_and_tensors_channels_first():
    assert torch.equal(from_array(RGB), UPRIGHT)
    assert torch.equal(from_array(UPRIGHT), UPRIGHT)
    assert torch.equal(from_array(RGB[..., 0]), UPRIGHT[:1])
    assert torch.equal(from_array(UPRIGHT[0]), UPRIGHT[:1])
    assert torch.equal(from_array(RGB[..., :1]), UPRIGHT[:1])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_are_scaled_and_rounded(kind):
    values = np.array([[0, 0.4 / 255, 0.6 / 255, 0.25, 1]], dtype=kind)
    assert from_array(values)[0].tolist() == [[0, 0, 1, 64, 255]]
    assert from_array(torch.from_numpy(values))[0].tolist() == [[0, 0, 1, 64, 255]]


def test_bfloat16_and_gradients_are_taken():
    image = torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert from_array(image).unique().tolist() == [128]


def test_16_bit_arrays_are_rescaled():
    values = np.array([[0, 257 * 9, 65535]], dtype=np.uint16)
    assert from_array(values)[0].tolist() == [[0, 9, 255]]
    assert from_array(torch.from_numpy(values))[0].tolist() == [[0, 9, 255]]


def test_a_fourth_channel_is_put_on_white_unless_the_model_takes_four():
    image = np.dstack([RGB, np.zeros_like(RGB[..., 0])])
    image[0, :, 3] = 255
    expected = np.full_like(RGB, 255)
    expected[0] = RGB[0]
    for given_ in (from_array(image), from_array(image / 255.0)):
        assert np.array_equal(preprocess(given_, *sized(24, 16, 3)).permute(1, 2, 0), expected)
        assert np.array_equal(preprocess(given_, *sized(24, 16, 4)).permute(1, 2, 0), image)


def test_the_result_does_not_share_memory():
    array = RGB.copy()
    image = from_array(array)
    array[:] = 0
    assert torch.equal(image, UPRIGHT)


def test_arrays_that_may_not_be_written_and_odd_strides_are_taken():
    array = RGB[::-1, ::-1]
    array.flags.writeable = False
    assert torch.equal(from_array(array), UPRIGHT.flip(1, 2))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"NumPy.*\(height, width, channels\).*got \(3, 8, 8\)"),
        (torch.zeros(8, 8, 3), r"tensor.*\(channels, height, width\).*got \(8, 8, 3\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"got \(2, 8, 8, 3\)"),
        (np.zeros(8, np.uint8), r"got \(8,\)"),
        (np.zeros((8, 8, 65), np.uint8), "1 to 64 channels"),
        (np.zeros((0, 8, 3), np.uint8), "at least one pixel"),
        (np.zeros((8, 8), np.int64), "uint8, uint16, or floating point from 0 to 1; got int64"),
        (torch.zeros(8, 8, dtype=torch.bool), "got bool"),
        (np.full((8, 8), np.nan), "not finite"),
        (np.full((8, 8), 200.0), "between 0 and 1, but these range from 200 to 200"),
        (torch.full((3, 8, 8), -0.1), "between 0 and 1, but these range from -0.1 to -0.1"),
    ],
)
def test_other_arrays_are_refused_saying_what_was_expected_and_what_came(array, said):
    with pytest.raises(ImageError, match=said):
        from_array(array)
