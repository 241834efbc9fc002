"""Pairs of Fashion-MNIST pictures side by side, each with the labels of both: mean average precision.

    python -m benchmarks.learning.multilabel

Writes 5,000 pictures of 56 × 28 pixels and a table of path,labels,split (a third of the pictures have one label
only, the other half being blank), trains by the command line for 8 epochs, which takes about a minute on a core,
and prints what it says of the test images, which are made of the published test images.
Seed 0: 86.9% (85.0% to 89.0%), where a random order gets 16.0%.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.fashion_mnist_folders import CLASSES, DEBIAN
from benchmarks.learning.imbalance import read

IMAGES = {"train": 4000, "val": 400, "test": 600}


def write_table(out: Path, source: Path, seed: int) -> Path:
    """The pictures and their table."""
    random = np.random.default_rng(seed)
    rows = []
    for split, count in IMAGES.items():
        pixels, labels = read(source, "test" if split == "test" else "train")
        # Training and validation use different source images.
        first, last = {"train": (0, 50_000), "val": (50_000, 60_000), "test": (0, 10_000)}[split]
        (out / split).mkdir(parents=True)
        for number in range(count):
            indices = random.integers(first, last, size=1 if number % 3 == 0 else 2)
            halves = [pixels[index] for index in indices] + [np.zeros_like(pixels[0])] * (2 - len(indices))
            name = f"{split}/{number:04}.png"
            Image.fromarray(np.hstack([halves[half] for half in random.permutation(2)])).save(out / name)
            rows.append((name, "|".join(sorted({CLASSES[labels[index]] for index in indices})), split))
    table = out / "pairs.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "labels", "split"), *rows])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", type=Path, default=DEBIAN, metavar="FOLDER", help="default: %(default)s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder) / "data", arguments.source, arguments.seed)
        command = [sys.executable, "-m", "megavit", "train", str(table), "--out", str(Path(folder) / "run")]
        command += [
            "--epochs",
            str(arguments.epochs),
            "--model",
            "pico",
            "--image-size",
            "28",
            "--patch-size",
            "4",
            "--batch-size",
            "64",
        ]
        command += ["--precision", "float32", "--seed", str(arguments.seed), "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        test = json.loads(done.stdout)["test"]
    for name in ("mean_average_precision", "macro_f1", "exact_match"):
        found = test[name]
        sys.stdout.write(f"{name}: {found['value']:.1%} (95%: {found['low']:.1%} to {found['high']:.1%})\n")
    sys.stdout.write(f"of a random order: {test['chance_level']:.1%}\n")


if __name__ == "__main__":
    main()
