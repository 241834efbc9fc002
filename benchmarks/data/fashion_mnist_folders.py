"""Fashion-MNIST as class folders of PNG files: OUT/train/Bag/00000.png, OUT/test/Bag/00000.png, ...

    python benchmarks/data/fashion_mnist_folders.py runs/fashion

70,000 gray images of 28 × 28 pixels in 10 classes (arXiv 1708.07747), read from the four files of Debian's
package dataset-fashion-mnist. A file's number is its place among all images of its split.
"""

import argparse
import gzip
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from megavit.errors import DataError, MegavitError, OutputError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ["T-shirt-top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot"]
PREFIXES = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> np.ndarray:
    """The array of bytes in a gzipped IDX file: two zeros, the type (8), the rank, a big-endian side each, the values.

    Raises:
        DataError: for a file that is not there, not readable, or whose sides and length disagree.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path} is not there; install Debian's package dataset-fashion-mnist, or name the folder "
            "with its four .gz files with --source"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a gzip file: {error}") from error
    if content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an IDX file of bytes: it begins with {content[:4].hex()}, expected 000008")
    rank = content[3]
    start = 4 + 4 * rank
    sides = np.frombuffer(content[4:start], dtype=">u4").astype(int)
    if len(sides) != rank or len(content) - start != sides.prod():
        raise DataError(f"{path} holds {len(content) - start} values, expected {' × '.join(map(str, sides))}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(sides)


def write_split(source: Path, out: Path, split: str, limit: int | None) -> int:
    """Write the first `limit` images of a split (None: all) under `out/split` and say how many there were."""
    images = read_idx(source / f"{PREFIXES[split]}-images-idx3-ubyte.gz")
    labels = read_idx(source / f"{PREFIXES[split]}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) >= len(CLASSES):
        raise DataError(f"the {split} files do not fit together: images {images.shape}, labels {labels.shape}")
    folders = [out / split / name for name in CLASSES]
    for folder in folders:
        folder.mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images[:limit], labels[:limit], strict=True)):
        Image.fromarray(image).save(folders[label] / f"{number:05}.png")
    return len(images[:limit])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder to make, or an empty one")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images of each split")
    parser.add_argument("--source", type=Path, default=DEBIAN, metavar="FOLDER", help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        if arguments.limit is not None and arguments.limit < 1:
            raise DataError(f"--limit must be at least 1, got {arguments.limit}")
        if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
            raise OutputError(f"{arguments.out} is there and not an empty folder; name another, or remove it")
        for split in PREFIXES:
            count = write_split(arguments.source, arguments.out, split, arguments.limit)
            sys.stdout.write(f"{arguments.out / split}: {count} images in {len(CLASSES)} classes\n")
    except MegavitError as error:
        parser.exit(error.exit_code, f"{error}\n")


if __name__ == "__main__":
    main()
