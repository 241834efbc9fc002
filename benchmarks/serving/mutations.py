"""Real images with something broken, from a seed: what a decoder meets when somebody tries to break it."""

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.serving.hostile import encode, npy

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HEADER_BYTES = 256
"""Bytes in which most formats tell sizes, counts and offsets."""
_SIZE_PATTERNS = {
    b"\x89PNG": re.compile(rb"IHDR"),
    b"\xff\xd8": re.compile(rb"\xff[\xc0-\xc2].{3}", re.DOTALL),
    b"GIF8": re.compile(rb"GIF8[79]a"),
    b"RIFF": re.compile(rb"VP8[ LX].{4}", re.DOTALL),
    b"BM": re.compile(rb"BM.{16}", re.DOTALL),
    b"II*\0": re.compile(rb"\x00\x01[\x03\x04]\x00.{4}", re.DOTALL),
}
"""By how a file begins: what comes just before its width and height."""


def real_images() -> list[bytes]:
    """Two photographs, in every format and mode that is read, in small."""
    found = []
    for index, pixels in enumerate(load_sample_images().images):
        image = Image.fromarray(pixels).resize((160 - 32 * index, 107))
        gray, clear = image.convert("L"), image.convert("RGBA")
        clear.putalpha(gray)
        found += [
            encode(image, "JPEG"),
            encode(image, "JPEG", progressive=True, subsampling=0),
            encode(image.convert("CMYK"), "JPEG"),
            encode(gray, "JPEG", exif=_orientation_exif(6)),
            encode(image, "MPO", save_all=True, append_images=[image]),
            encode(image, "PNG"),
            encode(clear, "PNG"),
            encode(clear.quantize(32), "PNG"),
            encode(image, "GIF"),
            encode(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
            encode(image, "WEBP"),
            encode(clear, "WEBP", lossless=True),
            encode(image, "BMP"),
            encode(image.quantize(32), "BMP"),
            encode(image, "PPM"),
            encode(gray.convert("1"), "PPM"),
            *(encode(image, "TIFF", compression=one) for one in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")),
            encode(gray.convert("1"), "TIFF", compression="group4"),
            npy("|u1", str((image.height, image.width, 3)), image.tobytes()),
        ]
        if "AVIF" in Image.SAVE:
            found.append(encode(image, "AVIF"))
    return found


def mutate(images: Sequence[bytes], seed: int) -> bytes:
    """One of `images` with one kind of damage, or two: the same for the same seed."""
    random = Random(seed)
    data = random.choice(images)
    for _ in range(random.choice((1, 1, 2))):
        data = random.choice(_KINDS)(data, images, random)
    return data


def _flip(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _flip_number in range(random.choice((1, 2, 8, 64))):
        changed[_random_offset(changed, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _remove(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[:start] + data[start + random.choice((1, 2, 4, 100)) :]


def _repeat(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[start:end] * random.choice((2, 3, 20)) + data[end:]


def _noise(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[:start] + random.randbytes(random.choice((1, 4, 300))) + data[start:]


def _splice(data: bytes, images: Sequence[bytes], random: Random) -> bytes:
    """The head of one on the body of another."""
    other = random.choice(images)
    head = random.choice((4, 16, HEADER_BYTES, len(data) // 2))
    return data[:head] + other[min(head, len(other)) :]


def _extreme(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(data)
    for _write_number in range(random.choice((1, 2, 4))):
        value, order = random.choice(EXTREMES), random.choice("<>")
        number = struct.pack(order + "I", value) if value > 0xFFFF else struct.pack(order + "H", value)
        start = _random_offset(changed, random) if changed else 0
        changed[start : start + len(number)] = number
    return bytes(changed)


def _size(data: bytes, images: Sequence[bytes], random: Random) -> bytes:
    """Another width and height where the format tells them."""
    known = next(
        (found for start, rule in _SIZE_PATTERNS.items() if data.startswith(start) and (found := rule.search(data))),
        None,
    )
    if known is None:
        return _extreme(data, images, random)
    changed = bytearray(data)
    order, width = (">", 4) if data.startswith(b"\x89PNG") else (">", 2) if data.startswith(b"\xff\xd8") else ("<", 2)
    width = 4 if data.startswith((b"BM", b"II*\0")) else width
    for index in range(random.choice((1, 2))):
        value = random.choice((*EXTREMES, random.randrange(1, 20_000))) % 256**width
        start = known.end() + index * width
        changed[start : start + width] = struct.pack(order + {2: "H", 4: "I"}[width], value)
    return _with_checksums(bytes(changed))


def _beyond_checksums(data: bytes, images: Sequence[bytes], random: Random) -> bytes:
    """Flipped bits in a PNG whose checksums are right all the same, so that they are not what stops it."""
    return _with_checksums(_flip(data, images, random))


def _with_checksums(data: bytes) -> bytes:
    if not data.startswith(b"\x89PNG"):
        return data
    changed, start = bytearray(data), 8
    while start + 12 <= len(changed):
        end = start + 8 + int.from_bytes(changed[start : start + 4])
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = struct.pack(">I", zlib.crc32(changed[start + 4 : end]))
        start = end + 4
    return bytes(changed)


def _random_offset(data: bytearray, random: Random) -> int:
    """Mostly in the head, where a byte means much."""
    return random.randrange(min(len(data), HEADER_BYTES) if random.random() < 0.6 else len(data))


def _orientation_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


_KINDS: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    _flip,
    _cut,
    _remove,
    _repeat,
    _noise,
    _splice,
    _extreme,
    _size,
    _size,
    _beyond_checksums,
)
