"""Small pictures, and shards of them, for the tests beside this file."""

import io
import tarfile
from pathlib import Path

import numpy as np

from megavit.data.load import scan_source
from megavit.data.shards.index import ShardIndex
from megavit.data.shards.write import write_shards
from tests.helpers.difficult_images import encode_image

CLASSES = ("cat", "dog", "newt")


def make_png(number: int) -> bytes:
    """A PNG that differs from every other's; about 100 bytes."""
    return encode_image(np.array([[number % 256, number // 256], [7, 9]], np.uint8), "PNG")


def make_class_folders(root: Path, images: int = 60, splits: tuple[str, ...] = ("",)) -> Path:
    """`images` pictures of three classes below each of `splits`."""
    number = 0
    for split in splits:
        for place in range(images):
            folder = root / split / CLASSES[place % 3]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:04}.png").write_bytes(make_png(number))
            number += 1
    return root


def make_shards(source: Path, out: Path, *, size: int = 2**16, seed: int = 0) -> ShardIndex:
    """The images of a folder or a table in shards; of `size` bytes each, in which about thirty pictures fit."""
    listing, found = scan_source(source)
    return write_shards(listing, found, out, size=size, seed=seed)


def make_tar(files: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar as Python's own library writes it."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=kind) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def flip_bit(path: Path, offset: int) -> None:
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))
