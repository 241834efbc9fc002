"""Files that are small, hold few pixels, and would keep a decoder busy for minutes are refused before one sees them."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from megavit.data.decode import structure_guard
from megavit.data.decode.structure_guard import MAX_SCANS, check_structure
from megavit.data.decode.tensor import decode
from megavit.errors import ImageError


def picture() -> Image.Image:
    rows, columns = np.mgrid[0:24, 0:32]
    return Image.fromarray(np.stack([rows * 9, columns * 7, 255 - rows], axis=-1).astype(np.uint8))


def encode(kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    picture().save(target, kind, **options)
    return target.getvalue()


def segment(marker: int, data: bytes = b"") -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_with(data: bytes) -> bytes:
    return b"\xff\xd8" + data + encode("JPEG")[2:]


def jpeg_of_scans(scans: int) -> bytes:
    """Progressive, with its last scan again and again."""
    data = encode("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    here = data.count(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - here + 1) + b"\xff\xd9"


def png_with(data: bytes) -> bytes:
    plain = encode("PNG")
    return plain[:33] + data + plain[33:]


def gif_with(data: bytes) -> bytes:
    plain = encode("GIF")
    start = 13 + (3 << (plain[10] & 7) + 1)
    return plain[:start] + data + plain[start:]


def directory(entries: int, room: int, order: str = "<") -> bytes:
    """A TIFF directory whose entries all hold the same bytes."""
    form = struct.Struct(order + "HHLL")
    at = 8 + 2 + form.size * entries + 4
    listed = b"".join(form.pack(tag, 7, room, at) for tag in range(1, entries + 1))
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "LH", 8, entries)
    return head + listed + bytes(4 + room)


def exif_segments(data: bytes) -> bytes:
    return b"".join(segment(0xE1, b"Exif\0\0" + data[at : at + 60_000]) for at in range(0, len(data), 60_000))


def strips(count: int) -> bytes:
    """A TIFF that says that it is stored in so many strips."""
    form = struct.Struct("<HHLL")
    wanted = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    entries = [(tag, 4, 1, value) for tag, value in wanted.items()] + [(273, 4, count, 200), (279, 4, count, 200)]
    listed = b"".join(form.pack(*entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + listed + bytes(4 + 200 + 4 * count)


BOMB = 2**11, 2**16
BOMBS: dict[str, Callable[[], bytes]] = {
    "scans": lambda: jpeg_of_scans(MAX_SCANS + 1),
    "scans of a JPEG that is not progressive": lambda: (
        encode("JPEG")[:-2] + (segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0") * MAX_SCANS + b"\xff\xd9"
    ),
    "scans behind an end that lies in a comment": lambda: jpeg_of_scans(MAX_SCANS + 1).replace(
        b"\xff\xda", segment(0xFE, b"\xff\xd9") + b"\xff\xda"
    ),
    "markers": lambda: jpeg_with(segment(0xE5) * 2**16),
    "markers in what has no length": lambda: jpeg_with((b"\xff\xf0" + segment(0xE5) * 2**12) * 2**4),
    "bytes between markers": lambda: jpeg_with(segment(0xE5) + bytes(2**17)),
    "fill before a marker": lambda: jpeg_with(b"\xff" * 2**17),
    "chunks": lambda: png_with(chunk(b"prVt", b"") * 2**17),
    "a GIF's comment": lambda: gif_with(b"!\xfe" + (b"\xff" + bytes(255)) * 2**13 + b"\0"),
    "a GIF's comments": lambda: gif_with((b"!\xfe\x02ab\0") * 2**16),
    "a GIF's extensions": lambda: gif_with(b"!\xf9\x04\0\0\0\0\0" * 2**16),
    "a GIF's comments behind an empty block": lambda: gif_with(
        b"!\xf9\0," + bytes(44) + b"\0" + b"!\xfe\x02ab\0" * 2**16
    ),
    "bytes before a GIF's frame": lambda: gif_with(bytes(2**17)),
    "comments in digits": lambda: b"P3 32 24 255 " + b"1 #\n" * 32 * 24 * 3,
    "a TIFF's tags": lambda: directory(*BOMB),
    "a TIFF's tags, the other way round": lambda: directory(*BOMB, order=">"),
    "a TIFF's strips": lambda: strips(2**19),
    "EXIF of a JPEG": lambda: jpeg_with(exif_segments(directory(*BOMB))),
    "EXIF of a PNG": lambda: png_with(chunk(b"eXIf", directory(*BOMB))),
    "EXIF of a WebP": lambda: encode("WEBP", exif=directory(*BOMB)),
    "EXIF again and again": lambda: jpeg_with(exif_segments(b"Exif\0\0" * 2**10)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_keep_a_decoder_busy_is_refused(name: str) -> None:
    data = BOMBS[name]()
    assert len(data) < 2**23
    with pytest.raises(ImageError, match=r"too many|more than|too much|more tags|more EXIF"):
        check_structure(data)
    with pytest.raises(ImageError):
        decode(data)


def test_exif_as_text_is_not_read_where_it_is_too_much() -> None:
    text = b"\nexif\n 9\n" + directory(*BOMB).hex().encode()
    data = png_with(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    np.testing.assert_array_equal(decode(data).permute(1, 2, 0).numpy(), np.asarray(picture()))


@pytest.mark.parametrize(
    "data",
    [
        encode("JPEG"),
        encode("JPEG", progressive=True, exif=b"Exif\0\0" + directory(50, 200)),
        jpeg_of_scans(MAX_SCANS),
        encode("JPEG", icc_profile=bytes(2**20)),
        # As phones write them: a film behind the picture.
        encode("JPEG") + np.random.default_rng(0).bytes(2**24),
        encode("MPO", save_all=True, append_images=[picture()] * 9),
        encode("PNG"),
        png_with(chunk(b"tEXt", b"a\0b") * 2**10),
        encode("GIF", comment=b"c" * 2**10),
        encode("WEBP"),
        encode("TIFF"),
        encode("TIFF", compression="tiff_adobe_deflate", save_all=True, append_images=[picture()] * 9),
        strips(24),
        encode("BMP"),
        encode("PPM"),
    ],
    ids=lambda data: f"{data[:4]!r} of {len(data):,}",
)
def test_real_pictures_pass(data: bytes) -> None:
    check_structure(data)


@given(
    st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"RIFF", b"P3 "]),
    st.binary(),
)
def test_what_is_damaged_is_left_to_the_decoder(head: bytes, rest: bytes) -> None:
    check_structure(head + rest)


def test_a_directory_may_hold_as_much_as_large_files_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_guard, "MAX_DIRECTORY_BYTES", 1_000)
    check_structure(directory(2, 10_000))
    with pytest.raises(ImageError, match="tags"):
        check_structure(directory(3, 10_000))
