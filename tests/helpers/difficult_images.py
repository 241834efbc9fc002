"""Class folders full of bad and unusual images, with what must become of each."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from megavit.data.file_names import HIDDEN

READ = "read"
DAMAGED = "damaged or truncated"
NOT_REGULAR = "not a regular file"

TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.swapaxes(image, 0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(np.swapaxes(image, 0, 1), 2),
    8: lambda image: np.rot90(image, -1),
}
"""How an upright (H, W, C) array is stored under each EXIF orientation."""


def make_image(height: int = 24, width: int = 16) -> np.ndarray:
    """uint8 (height, width, 3), smooth, and like itself under no turn."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 9 + columns, columns * 13, 255 - rows * 5], axis=-1).astype(np.uint8)


def encode_image(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    target = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(target, kind, **options)
    return target.getvalue()


def make_png(width: int, height: int, depth: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG made by hand, as Pillow writes no 16-bit color and no lies."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = (
        make_png_chunk(b"IHDR", header)
        + extra
        + make_png_chunk(b"IDAT", zlib.compress(rows, 9))
        + make_png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def make_png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def make_difficult_images(folder: Path) -> dict[str, str]:
    """Fill the class folders "fair" and "foul" of `folder`: name to `READ` or the reason for skipping.

    "fair" holds what is unusual and right, "foul" what is wrong, with one good image.
    """
    expected: dict[str, str] = {}
    for name, data in _fair().items():
        _write(folder, f"fair/{name}", data)
        expected[f"fair/{name}"] = READ
    for name, (data, reason) in _foul().items():
        _write(folder, f"foul/{name}", data)
        expected[f"foul/{name}"] = reason
    for name, reason in _links_and_pipes(folder).items():
        expected[name] = reason
    return expected


def _write(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def _fair() -> dict[str, bytes]:
    rgb = make_image()
    image = Image.fromarray(rgb)
    gray = image.convert("L")
    deep = np.asarray(gray).astype(np.uint16) * 257
    clear = image.convert("RGBA")
    clear.putalpha(gray)
    frames = [image.rotate(angle) for angle in (0, 90, 180)]
    animation = {"save_all": True, "append_images": frames[1:]}
    deep_rows = b"".join(b"\0" + row.astype(">u2").repeat(3).tobytes() for row in deep)
    deep_clear_rows = b"".join(b"\0" + row.astype(">u2").repeat(4).tobytes() for row in deep)
    jpeg = encode_image(rgb, "JPEG", quality=95)
    exif = make_exif(6)
    files = {
        "plain.png": encode_image(rgb, "PNG"),
        "plain.jpg": jpeg,
        "plain.bmp": encode_image(rgb, "BMP"),
        "plain.gif": encode_image(rgb, "GIF"),
        "plain.webp": encode_image(rgb, "WEBP", lossless=True),
        "plain.tif": encode_image(rgb, "TIFF"),
        "plain.ppm": encode_image(rgb, "PPM"),
        "plain.mpo": encode_image(image, "MPO", save_all=True, append_images=frames[1:]),
        "one_pixel.png": encode_image(rgb[:1, :1], "PNG"),
        "progressive.jpg": encode_image(rgb, "JPEG", progressive=True),
        "gray.jpg": encode_image(gray, "JPEG"),
        "gray16.png": encode_image(Image.fromarray(deep), "PNG"),
        "gray16.tif": encode_image(Image.fromarray(deep), "TIFF"),
        "gray16.pgm": encode_image(Image.fromarray(deep), "PPM"),
        "color16.png": make_png(16, 24, 16, 2, deep_rows),
        "color16_clear.png": make_png(16, 24, 16, 6, deep_clear_rows),
        "float.tif": encode_image(Image.fromarray(np.asarray(gray).astype(np.float32) / 255), "TIFF"),
        "one_bit.png": encode_image(image.convert("1"), "PNG"),
        "fax.tif": encode_image(image.convert("1"), "TIFF", compression="group4"),
        "clear.png": encode_image(clear, "PNG"),
        "clear.webp": encode_image(clear, "WEBP"),
        "gray_clear.png": encode_image(clear.convert("LA"), "PNG"),
        "palette.png": encode_image(image.quantize(16), "PNG"),
        "palette_clear.png": encode_image(image.quantize(16), "PNG", transparency=3),
        "palette_half_clear.png": encode_image(clear.quantize(16), "PNG"),
        "one_color_clear.png": encode_image(rgb, "PNG", transparency=tuple(map(int, rgb[3, 3]))),
        "cmyk.jpg": encode_image(image.convert("CMYK"), "JPEG"),
        "cmyk.tif": encode_image(image.convert("CMYK"), "TIFF"),
        "lab.tif": encode_image(Image.merge("LAB", image.split()), "TIFF"),
        "moving.gif": encode_image(frames[0], "GIF", **animation),
        "moving.webp": encode_image(frames[0], "WEBP", **animation),
        "moving.png": encode_image(frames[0], "PNG", **animation),
        "pages.tif": encode_image(image, "TIFF", save_all=True, append_images=[image] * 40),
        "garbage_after.jpg": jpeg + b"\0garbage" * 100,
        "damaged_exif.jpg": encode_image(rgb, "JPEG", exif=exif[:20] + b"\xff" * 12),
        "damaged_profile.jpg": encode_image(rgb, "JPEG", icc_profile=b"\0no profile at all" * 9),
        "profile.png": encode_image(
            rgb, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        ),
        "long_text.png": make_png(1, 1, 8, 0, b"\0\x80", make_png_chunk(b"tEXt", b"Comment\0" + b"long " * 200_000)),
        # 64 MiB of zeros behind the one pixel that there is: the rest must never be unpacked.
        "more_than_it_says.png": make_png(1, 1, 8, 0, bytes(2**26)),
        "really_a_png.jpg": encode_image(rgb, "PNG"),
        "no_suffix": encode_image(rgb, "PNG"),
        f"{'é' * 60}{'猫' * 25}.png": encode_image(rgb, "PNG"),
        'two\nlines, "quoted".png': encode_image(rgb, "PNG"),
        os.fsdecode(b"no text \xff\xfe.png"): encode_image(rgb, "PNG"),
        "folder.jpg/inside/within.png": encode_image(rgb, "PNG"),
        **{f"exif{turn}.jpg": encode_image(_stored(rgb, turn), "JPEG", exif=make_exif(turn)) for turn in TURNS},
    }
    if "AVIF" in Image.SAVE:
        files["plain.avif"] = encode_image(rgb, "AVIF")
    return files


def _stored(rgb: np.ndarray, orientation: int) -> np.ndarray:
    return np.ascontiguousarray(TURNS[orientation](rgb))


def _foul() -> dict[str, tuple[bytes, str]]:
    rgb = make_image()
    good = encode_image(rgb, "PNG")
    data_at = good.index(b"IDAT") + 4
    wrong_sum = bytearray(good)
    wrong_sum[data_at + struct.unpack(">I", good[data_at - 8 : data_at - 4])[0]] ^= 1
    whole = {kind: encode_image(rgb, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")}
    gray = np.asarray(Image.fromarray(rgb).convert("L"))
    return {
        "good.png": (good, READ),
        "huge.png": (make_png(60_000, 60_000, 8, 0, bytes(1_000)), "the image exceeds the limit of 89 million pixels"),
        "large.png": (make_png(12_000, 12_000, 8, 0, bytes(9)), "12000 × 12000 pixels exceed the limit of 89 million"),
        "wide.png": (make_png(40_000, 1_000, 8, 0, bytes(9)), "40000 × 1000 pixels exceed the limit of 32768 per side"),
        "thin.png": (
            encode_image(np.zeros((30_000, 1), np.uint8), "PNG"),
            "1 × 30000 pixels: one side is more than 100 times the other",
        ),
        "empty.jpg": (b"", "the file is empty"),
        "half.jpg": (whole["JPEG"][: len(whole["JPEG"]) // 2], DAMAGED),
        "half.png": (whole["PNG"][: len(whole["PNG"]) // 2], DAMAGED),
        "no_end.png": (whole["PNG"][:-12], DAMAGED),
        "half.gif": (whole["GIF"][: len(whole["GIF"]) // 2], DAMAGED),
        "half.webp": (whole["WEBP"][: len(whole["WEBP"]) // 2], DAMAGED),
        "half.bmp": (whole["BMP"][: len(whole["BMP"]) // 2], DAMAGED),
        "half.tif": (whole["TIFF"][: len(whole["TIFF"]) // 2], DAMAGED),
        "half.ppm": (whole["PPM"][: len(whole["PPM"]) // 2], DAMAGED),
        "signature.png": (good[:8], DAMAGED),
        "wrong_sum.png": (bytes(wrong_sum), DAMAGED),
        "text_bomb.png": (
            make_png(1, 1, 8, 0, b"\0\x80", make_png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26), 9))),
            DAMAGED,
        ),
        "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "not an image (.jpg)"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image (.svg)"),
        "notes.txt": (b"cats and dogs\n", "not an image (.txt)"),
        "README": (b"cats and dogs\n", "not an image"),
        os.fsdecode(b"notes.\xff"): (b"cats and dogs\n", "not an image"),
        "noise.jpg": (np.random.default_rng(0).bytes(500), "not an image (.jpg)"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image (.eps)"),
        "unread_kind.ico": (encode_image(rgb, "ICO"), "not an image (.ico)"),
        "float.tif": (
            encode_image(Image.fromarray(gray.astype(np.float32)), "TIFF"),
            f"floating-point pixels must be between 0 and 1, but these range from {gray.min()} to {gray.max()}",
        ),
        "nan.tif": (
            encode_image(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"),
            "floating-point pixels must be between 0 and 1, but some are not finite (NaN or infinity)",
        ),
        "whole32.tif": (
            encode_image(Image.fromarray(gray.astype(np.int32)), "TIFF"),
            "32-bit integers have no known scale: save the image with 8 or 16 bits",
        ),
        ".hidden.png": (good, HIDDEN),
        "Thumbs.db": (b"thumbs", HIDDEN),
        "desktop.ini": (b"[view]", HIDDEN),
    }


def _links_and_pipes(folder: Path) -> dict[str, str]:
    foul, elsewhere = folder / "foul", folder.parent / "elsewhere"
    _write(elsewhere, "kept/linked.png", encode_image(make_image(), "PNG"))
    os.mkfifo(foul / "pipe.png")
    (foul / "zero.png").symlink_to("/dev/zero")
    (foul / "nowhere.png").symlink_to("not there")
    (foul / "itself.png").symlink_to("itself.png")
    (foul / "up").symlink_to("..")
    (foul / "deep").mkdir()
    (foul / "deep/back").symlink_to(foul)
    (foul / "empty.jpg.d").mkdir()
    (foul / "__MACOSX").mkdir()
    (foul / "__MACOSX/1.png").write_bytes(b"")
    (foul / "link.png").symlink_to(elsewhere / "kept/linked.png")
    (foul / "linked").symlink_to(elsewhere / "kept")
    (folder / "loose.png").write_bytes(encode_image(make_image(), "PNG"))
    again = "a link to a folder that was already read"
    return {
        "foul/pipe.png": NOT_REGULAR,
        "foul/zero.png": NOT_REGULAR,
        "foul/nowhere.png": "a broken link",
        "foul/itself.png": "a link that leads to itself",
        "foul/up": again,
        "foul/deep/back": again,
        "foul/__MACOSX": HIDDEN,
        "foul/link.png": READ,
        "foul/linked/linked.png": READ,
        "loose.png": "outside any class folder",
    }
