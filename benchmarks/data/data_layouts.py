"""Folders and tables as people have them: what is read of each, what is said, or with which sentence it is refused.

    python benchmarks/data/data_layouts.py [--json FILE] [--markdown FILE]

Every layout is built from small pictures in a temporary folder and read as `megavit train` reads it; beside it stands
what torchvision.datasets.ImageFolder, or pandas.read_csv, makes of the same.
"""

import argparse
import json
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.errors import MegavitError

Build = Callable[[Path], Path]
_NUMBERS = count()


@dataclass(frozen=True)
class Outcome:
    """What came of one layout.

    Attributes:
        classes: with all their images; none where it was refused.
        splits: images of each.
        said: sentences for the person.
        refused: the sentence; "" where it was read.
        peer: the classes, or labels, that the peer finds.
    """

    name: str
    classes: dict[str, int]
    splits: dict[str, int]
    said: list[str]
    refused: str
    peer: str


def write_images(root: Path, *folders: str, per_folder: int = 4) -> Path:
    """Fill folders with pictures, no two of which are alike."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(per_folder):
            number = next(_NUMBERS)
            pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


def folders(*names: str, per_folder: int = 4) -> Build:
    return lambda root: write_images(root, *names, per_folder=per_folder)


def table(text: str | bytes, *names: str) -> Build:
    """A table beside pictures of these names."""

    def build(root: Path) -> Path:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_images(root, ".made", per_folder=1)
            next((root / ".made").iterdir()).rename(path)
        path = root / "data.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return build


def _with_own_output(root: Path) -> Path:
    write_images(root, "cat", "dog", "explained", "runs/photos/bundle")
    for number, path in enumerate(sorted((root / "explained").iterdir())):
        path.rename(path.with_name(f"{number}.explained.png"))
    for name in ("plan.json", "recipe.toml"):
        (root / "runs/photos" / name).touch()
    return root


def _with_systems_folders(root: Path) -> Path:
    kept = ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".thumbnails", "__MACOSX")
    write_images(root, "cat", "dog", *kept, ".ipynb_checkpoints", *(f"cat/{name}" for name in kept), "dog/deep/@eaDir")
    for name in ("Thumbs.db", "._1.png", ".DS_Store", "desktop.ini"):
        (root / "cat" / name).touch()
    return root


PHOTOS = tuple(f"{number}.png" for number in range(1, 7))
NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")

FORMATS: dict[str, Build] = {
    "class folders": folders("cat", "dog"),
    "splits by our names": folders("train/cat", "train/dog", "val/cat", "test/dog"),
    "splits by other names": folders("training_set/cat", "training_set/dog", "dev/cat", "Test-Images/dog"),
    "splits with the set's name": folders("seg_train/sea", "seg_train/street", "seg_test/sea", "seg_test/street"),
    "splits, each with itself within": folders("seg_train/seg_train/sea", "seg_train/seg_train/street",
                                               "seg_test/seg_test/sea", "seg_test/seg_test/street"),
    "train2017 and val2017": folders("train2017/cat", "train2017/dog", "val2017/cat", "val2017/dog"),
    "splits within the classes": folders("crack/train", "crack/test", "sound/train", "sound/test"),
    "one folder down": folders("photos/cat", "photos/dog"),
    "three folders down, then splits": folders("a/b/c/train/cat", "a/b/c/train/dog", "a/b/c/test/cat"),
    "one more folder in every split": folders("train/photos/cat", "train/photos/dog", "test/photos/cat"),
    "a class called train": folders("bus", "train", "tram"),
    "classes that hold the same folders": folders("site1/cat", "site1/dog", "site2/cat", "site2/dog"),
    "folders of systems": _with_systems_folders,
    "output of our own": _with_own_output,
    "one class in two Unicode forms": folders(f"train/{NFC}", "train/tea", f"test/{NFD}", "test/tea"),
    "names that look alike": folders("Cat", "cat ", "d\u043eg", "dog"),
    "no train": folders("val/cat", "val/dog", "test/cat"),
    "splits beside classes": folders("train/cat", "train/dog", "extra/cat"),
    "splits in one class only": folders("crack/train", "crack/test", "sound"),
    "folders within splits within classes": folders("bottle/train/good", "bottle/test/good", "bottle/test/broken",
                                                    "cable/train/good", "cable/test/cut"),
    "a split and a class in one name": folders("trainA", "trainB", "testA", "testB"),
    "splits within splits": folders("train/train/cat", "train/test/cat", "test/train/cat", "test/test/cat"),
    "pictures and masks": folders("images", "masks"),
    "one class": folders("cat"),
    "one class with an image beside its folders": lambda root: write_images(write_images(root, "photos", per_folder=1),
                                                                              "photos/cat", "photos/dog"),
    "an empty folder": lambda root: root,
    "table": table("path,label\n1.png,cat\n2.png,cat\n3.png,cat\n4.png,dog\n5.png,dog\n6.png,dog\n", *PHOTOS),
    "table of fastai": table("fname,labels,is_valid\n1.png,cat|sofa,False\n2.png,cat,False\n3.png,cat,True\n", *PHOTOS),
    "table of fastai, spaces": table("fname,labels,is_valid\n1.png,cat sofa,False\n2.png,cat,True\n", *PHOTOS),
    "table with sep=;": table("sep=;\r\nimage_path;label;data set\r\n1.png;cat;train\r\n2.png;dog;train\r\n", *PHOTOS),
    "table with empty rows": table("filepath,label\n1.png,cat\n,\n\n2.png,dog\n ,  \n", *PHOTOS),
    "table with spaces and \\": table("file_name, class\na\\1.png , cat\n a\\2.png, dog\n", "a/1.png", "a/2.png"),
    "table of another Unicode form": table(f"img,label\n{NFC}.png,{NFD}\n2.png,{NFC}\n3.png,x", f"{NFD}.png", *PHOTOS),
    "table of Python's lists": table('path,labels\n1.png,"[\'cat\', \'sofa\']"\n2.png,[]\n3.png,[\'sofa\']\n', *PHOTOS),
    "table of NumPy's lists": table("path,labels\n1.png,['cat' 'sofa']\n2.png,['cat']\n", *PHOTOS),
    "table with commas for labels": table('path,labels\n1.png,"cat, sofa"\n2.png,cat\n', *PHOTOS),
    "table with | in the label": table("path,label\n1.png,cat|sofa\n2.png,cat\n", *PHOTOS),
    "table with nan": table("path,label\n1.png,cat\n2.png,nan\n3.png,dog\n", *PHOTOS),
    "table with a split of another name": table("path,label,use\n1.png,a,Training\n2.png,b,Training\n3.png,a,Test\n"),
    "table in UTF-16": table("path\tlabel\n1.png\tcat\n2.png\tdog\n".encode("utf-16"), *PHOTOS),
    "table in latin-1": table("path,label\n1.png,caf\xe9\n2.png,dog\n".encode("latin-1"), *PHOTOS),
    "table of one endless line": table(b"path,label\n1.png," + b"x" * 2**22, *PHOTOS),
    "table of a million columns": table(b"path,label" + b",x" * 2**20 + b"\n", *PHOTOS),
    "spreadsheet's own file": table(b"PK\x03\x04" + bytes(60), *PHOTOS),
}  # fmt: skip


def read_layout(name: str, layout_folder: Path) -> Outcome:
    """Build a layout in an empty folder, and read it."""
    data = FORMATS[name](layout_folder)
    peer = _read_with_peer(data)
    try:
        images = load_data(data, DataRecipe())
    except MegavitError as error:
        return Outcome(name, {}, {}, [], str(error).replace(str(layout_folder), "DATA"), peer)
    counts = images.class_counts()
    classes = {label: sum(counts[split][label] for split in counts) for label in images.classes}
    skipped = [f"{count} skipped: {reason}" for reason, count in images.skipped_by_reason().items()]
    return Outcome(name, classes, images.split_sizes(), [*images.notes, *skipped], "", peer)


def _read_with_peer(data: Path) -> str:
    if data.is_dir():
        from torchvision.datasets import ImageFolder

        try:
            return ", ".join(ImageFolder(str(data)).classes)
        except FileNotFoundError:
            return "refused"
    if data.stat().st_size > 2**16:
        return "not tried, as it takes too long"
    try:
        pandas: Any = import_module("pandas")
    except ModuleNotFoundError:
        return "pandas is not installed"
    try:
        found = pandas.read_csv(data)
    except (ValueError, UnicodeError) as error:  # of which pandas' own errors are
        return f"refused: {str(error)[:50]}"
    return f"{len(found):,} rows, {len(found.columns):,} columns"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(FORMATS):
            layout_folder = Path(folder) / str(number)
            layout_folder.mkdir()
            found.append(read_layout(name, layout_folder))
    lines = ["| layout | read | splits | said, or refused | ImageFolder, or pandas |", "|---|---|---|---|---|"]
    for outcome in found:
        classes = ", ".join(f"{label!a} {images}" for label, images in outcome.classes.items())
        splits = " / ".join(str(images) for images in outcome.splits.values())
        said = (
            f"**refused:** {outcome.refused.partition(' Expected')[0]}" if outcome.refused else "; ".join(outcome.said)
        )
        cells = (outcome.name, classes, splits, said, outcome.peer[:80])
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    sys.stdout.write("\n".join(lines) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in found], indent=1))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
