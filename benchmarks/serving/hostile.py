"""Images that mean harm, or that a careless decoder gets wrong: some are fine and odd, most must be refused."""

import gzip
import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image

JPEG_START_OF_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"


def make_image(width: int = 96, height: int = 64) -> Image.Image:
    """Smooth, with some noise; like itself under no turn."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 9, (height, width))
    channels = [rows * 2 % 256, columns * 3 % 256, (255 - rows - columns) % 256]
    return Image.fromarray(np.stack([(one + noise).clip(0, 255) for one in channels], axis=-1).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, color: int = 0, extra: bytes = b"") -> bytes:
    """A PNG that says what it is told to, true or not."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(entries: dict[int, tuple[int, int, int]], after: bytes = b"", following: int = 0) -> bytes:
    """A little-endian TIFF of one directory at byte 8; entries are tag -> (type, count, value)."""
    directory = struct.pack("<H", len(entries))
    for tag, (kind, count, value) in sorted(entries.items()):
        directory += struct.pack("<HHII", tag, kind, count, value)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following) + after


def plain_tiff(width: int, height: int, compression: int, length: int, offset: int = 200) -> dict[int, Any]:
    """Entries of a gray picture of 8 bits in one strip."""
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, compression),
        262: (3, 1, 1),
        273: (4, 1, offset),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, length),
    }


def tiled_tiff(width: int, height: int, compression: int, side: int, length: int) -> dict[int, Any]:
    """Entries of a gray picture of 8 bits in one tile."""
    plain = plain_tiff(width, height, compression, length)
    tile = {322: (4, 1, side), 323: (4, 1, side), 324: (4, 1, 200), 325: (4, 1, length)}
    return {tag: entry for tag, entry in plain.items() if tag not in (273, 278, 279)} | tile


def shared_value_tiff(entries: int, size: int) -> bytes:
    """A TIFF directory whose entries all hold the same bytes, each of which a reader copies."""
    offset = 8 + 2 + 12 * entries + 4
    entry_bytes = b"".join(struct.pack("<HHII", tag, 7, size, offset) for tag in range(1, entries + 1))
    return b"II*\0" + struct.pack("<IH", 8, entries) + entry_bytes + bytes(4 + size)


def commented_gif(blocks: int) -> bytes:
    """With a comment of so many blocks of 255 bytes before its frame."""
    data = encode(make_image(), "GIF")
    start = 13 + (3 << (data[10] & 7) + 1)
    return data[:start] + b"!\xfe" + (b"\xff" + bytes(255)) * blocks + b"\0" + data[start:]


def many_scans(count: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times more: each is work over the whole picture."""
    data = encode(make_image(side, side), "JPEG", progressive=True, quality=30)
    last = data.rindex(JPEG_START_OF_SCAN)
    scan = data[last : data.rindex(JPEG_END)]
    return data[:last] + scan * (count + 1) + JPEG_END


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header tells another size."""
    data = bytearray(encode(make_image(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def npy(kind: str, shape: str, data: bytes) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def hostile_images() -> dict[str, bytes]:
    """What it is -> the file."""
    return {**_bombs(), **_liars(), **_others(), **_odd()}


def _bombs() -> dict[str, bytes]:
    zeros = bytes(2**26)
    animation = {"save_all": True, "append_images": [make_image().quantize(32)] * 500}
    packed = zlib.compress(zeros, 9)
    return {
        "PNG of 50,000 × 50,000": png(50_000, 50_000, zeros),
        "PNG of 7,000 × 7,000, honest": png(7_000, 7_000, bytes(7_001 * 7_000)),
        "PNG just above 50 million pixels": png(7_072, 7_072, bytes(7_073 * 7_072)),
        "PNG of 16 bits a channel, 6,000 × 6,000": png(6_000, 6_000, bytes(36_001 * 6_000), depth=16, color=2),
        "PNG of 2 × 30,000": png(2, 30_000, bytes(90_000)),
        "PNG with a text that unpacks to 64 MiB": png(1, 1, b"\0\0", extra=chunk(b"zTXt", b"Comment\0\0" + packed)),
        "PNG with a profile that unpacks to 64 MiB": png(1, 1, b"\0\0", extra=chunk(b"iCCP", b"profile\0\0" + packed)),
        "PNG with EXIF whose 1,000 entries all hold the same 1 MiB": png(
            1, 1, b"\0\0", extra=chunk(b"eXIf", shared_value_tiff(1_000, 2**20))
        ),
        "GIF with a comment of 30 MiB": commented_gif(30 * 2**12),
        "JPEG of 7 million markers": b"\xff\xd8" + b"\xff\xe5\0\2" * (7 * 2**20) + encode(make_image(), "JPEG")[2:],
        "PNG with 100,000 chunks": png(1, 1, b"\0\0", extra=chunk(b"tEXt", b"a\0b") * 100_000),
        "JPEG of 500 scans": many_scans(500, 1_600),
        "JPEG of 65,500 × 65,500": jpeg_of_size(65_500, 65_500),
        "GIF of 500 frames": encode(make_image(), "GIF", **animation),
        "WebP of 500 frames": encode(make_image(), "WEBP", **animation),
        "PNG of 500 frames": encode(make_image(), "PNG", **animation),
        "TIFF of 1 pixel in a tile of 30,000 × 30,000": tiff(
            tiled_tiff(1, 1, 8, 30_000, len(packed)), after=bytes(200 - 146) + packed
        ),
        "TIFF of 1 pixel in a tile of 30,000 × 30,000, not packed": tiff(
            tiled_tiff(1, 1, 1, 30_000, len(packed)), after=bytes(200 - 146) + packed
        ),
        "TIFF of 500 pages": encode(make_image(), "TIFF", **animation),
        "TIFF that unpacks to 64 MiB in a strip of 1 pixel": tiff(
            plain_tiff(1, 1, 8, len(packed)), after=bytes(200 - 122) + packed
        ),
        "TIFF of 7,000 × 7,000, packed": tiff(
            plain_tiff(7_000, 7_000, 8, len(packed)), after=bytes(200 - 122) + packed
        ),
        "BMP of 20,000 × 20,000 by run lengths": b"BM"
        + struct.pack("<IHHI", 64, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 20_000, 20_000, 1, 8, 1, 8, 1, 1, 0, 0)
        + b"\0\1\0\1",
        "PPM in 20 MiB of digits": b"P3 1500 1500 255 " + b"1 " * (10 * 2**20),
    }


def _liars() -> dict[str, bytes]:
    jpeg, webp, gif = (encode(make_image(), kind) for kind in ("JPEG", "WEBP", "GIF"))
    screen = bytearray(gif)
    screen[6:10] = b"\xff\xff\xff\xff"
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff\x3f\0" * 2 + webp[12:]
    found = {
        "JPEG cut short": jpeg[: len(jpeg) // 2],
        "JPEG without its tables": jpeg.replace(b"\xff\xdb", b"\xff\xec"),
        "GIF whose screen is 65,535 × 65,535": bytes(screen),
        "WebP cut short": webp[: len(webp) // 2],
        "WebP whose canvas is 16,384 × 16,384": b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas,
        "PPM of 99,999 × 99,999": b"P6 99999 99999 255 " + bytes(99),
        "TIFF whose directory follows itself": tiff(plain_tiff(8, 8, 1, 64), after=bytes(200), following=8),
        "TIFF whose strip is beyond its end": tiff(plain_tiff(900, 900, 1, 810_000, 2**31), after=bytes(99)),
        "TIFF with 4 billion of a tag": tiff(plain_tiff(8, 8, 1, 64) | {273: (4, 2**32 - 1, 200)}, after=bytes(200)),
        "NPY of a shape beyond everything": npy("|u1", "(1000000000, 1000000000, 3)", bytes(99)),
    }
    if "AVIF" in Image.SAVE:
        avif = bytearray(encode(make_image(), "AVIF"))
        size = avif.index(b"ispe") + 8
        found["AVIF cut short"] = bytes(avif[: len(avif) // 2])
        avif[size : size + 8] = struct.pack(">II", 65_535, 65_535)
        found["AVIF that says 65,535 × 65,535"] = bytes(avif)
    return found


def _others() -> dict[str, bytes]:
    good = encode(make_image(), "PNG")
    entity = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>'
    return {
        "nothing": b"",
        "one byte": b"\xff",
        "noise": np.random.default_rng(1).bytes(5_000),
        "HTML": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
        "SVG with an entity": entity,
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "PDF": b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj",
        "ZIP of zeros": zipped({"0.png": bytes(2**26)}),
        "ZIP behind a GIF": encode(make_image(), "GIF") + zipped({"a.py": b"print()"}),
        "gzipped PNG": gzip.compress(good),
        "NPZ": zipped({"a.npy": npy("|u1", "(2, 2)", bytes(4))}),
        "NPY with objects, a pickle": npy("|O", "(1,)", b"cposix\nsystem\n(S'true'\ntR."),
        "ICO": encode(make_image(), "ICO"),
        "TGA": encode(make_image(), "TGA"),
        "a list of paths": b"/etc/passwd\n/etc/hostname\n",
    }


def _odd() -> dict[str, bytes]:
    image = make_image()
    clear = image.convert("RGBA")
    clear.putalpha(image.convert("L"))
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 65_535
    return {
        "JPEG with torn EXIF": encode(image, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xee" * 60),
        "JPEG with an impossible orientation": encode(image, "JPEG", exif=exif.tobytes()),
        "JPEG with a false profile": encode(image, "JPEG", icc_profile=b"no profile " * 99),
        "JPEG of CMYK": encode(image.convert("CMYK"), "JPEG"),
        "JPEG, then 1 MiB of noise": encode(image, "JPEG") + np.random.default_rng(2).bytes(2**20),
        "PNG of 16-bit gray": encode(deep, "PNG"),
        "PNG with a palette and opacity": encode(clear.quantize(16), "PNG"),
        "PNG that moves": encode(image, "PNG", save_all=True, append_images=[image.rotate(90)] * 9),
        "WebP that moves": encode(image, "WEBP", save_all=True, append_images=[image.rotate(90)] * 9),
        "TIFF of floats that are not numbers": encode(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
        "TIFF of CMYK": encode(image.convert("CMYK"), "TIFF"),
    }
