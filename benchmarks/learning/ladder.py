"""Fine-tuning on 20 images a class, rung by rung, beside training from nothing: Fashion-MNIST, half of it known.

    python -m benchmarks.learning.ladder
    python -m benchmarks.learning.ladder --seeds 0 1 2 --before-per-class 5000

A model is trained on five classes, drawn by the seed, then tuned to the other five with few images of each, of which
the tool itself holds some back for validation. Prints the accuracy on the published test images of these five, and the
seconds of the rung alone (of the whole training for the model from nothing, by the time of its last step).

With --before-per-class 5000, seeds 0, 1 and 2, two cores: from nothing 88.8, 78.2 and 83.1% in 30 epochs (6 s), 92.9,
81.8 and 88.5% in 150 (16 s); probe 90.7, 71.8 and 85.8% (0.6 s), lora 93.8, 81.1 and 88.1% (3 s), last 93.4, 80.3 and
87.9% (1.4 s), all 94.6, 82.8 and 89.4% (2.4 s), each within ±1% (95%). auto kept lora, lora and the probe: 93.8, 81.1
and 85.8%, in 14 to 26 s with its five folds a rung.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.fashion_mnist_folders import CLASSES, DEBIAN
from benchmarks.learning.imbalance import read, write

SMALL = ("--model", "pico", "--image-size", "28", "--patch-size", "4")
RUNGS = ("probe", "lora", "last", "all", "auto")


def write_halves(out: Path, source: Path, before: int, num_new: int, seed: int) -> None:
    """before/ with class folders of five classes; after/train/ and after/test/ with those of the others."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(CLASSES))
    pixels, labels = read(source, "train")
    known = order[: len(CLASSES) // 2]
    for label in order:
        indices = random.permutation(np.flatnonzero(labels == label))
        if label in known:
            write(out / "before" / CLASSES[label], pixels, indices[:before])
        else:
            write(out / "after" / "train" / CLASSES[label], pixels, indices[:num_new])
    pixels, labels = read(source, "test")
    for label in order[len(known) :]:
        write(out / "after" / "test" / CLASSES[label], pixels, np.flatnonzero(labels == label))


def train(data: Path, out: Path, *options: str) -> dict[str, Any]:
    """What the bundle of a run by the command line says of itself."""
    line = [sys.executable, "-m", "megavit", "train", str(data), "--out", str(out), "--precision", "float32", *options]
    subprocess.run(line, check=True, capture_output=True)
    return json.loads((out / "bundle" / "megavit.json").read_text())


def print_result(name: str, info: dict[str, Any], seconds: float, details: str = "") -> None:
    found = info["metrics"]["accuracy"]
    interval = f"(95%: {found['low']:.1%} to {found['high']:.1%})"
    sys.stdout.write(f"  {name:8} {found['value']:6.1%} {interval}  {seconds:6.1f} s  {details}\n")
    sys.stdout.flush()


def training_seconds(out: Path) -> float:
    return json.loads((out / "log.jsonl").read_text().splitlines()[-1])["seconds"]


def show(folder: Path, seed: int, arguments: argparse.Namespace) -> None:
    """All figures of one seed."""
    write_halves(folder, arguments.source, arguments.before_per_class, arguments.per_class, seed)
    common = ("--seed", str(seed))
    before, after = folder / "known", folder / "after"
    info = train(folder / "before", before, *SMALL, "--epochs", str(arguments.before_epochs), *common)
    sys.stdout.write(f"seed {seed}: {', '.join(info['labels'])} are known\n")
    print_result("known", info, training_seconds(before), "of the five classes it was trained on")
    for epochs in (arguments.epochs, 5 * arguments.epochs):
        out = folder / f"nothing-{epochs}"
        info = train(after, out, *SMALL, "--epochs", str(epochs), *common)
        print_result("nothing", info, training_seconds(out), f"{epochs} epochs")
    for rung in RUNGS:
        info = train(
            after, folder / rung, "--from", str(before), "--finetune", rung, "--epochs", str(arguments.epochs), *common
        )
        results = info["tuning"]["results"]
        seconds = sum(one["seconds"] for one in results) if rung == "auto" else results[-1]["seconds"]
        selected = f"{info['tuning']['selected']}: {info['tuning']['reason']}; held out: "
        details = (
            selected + ", ".join(f"{one['method']} {one['value']:.1%}" for one in results) if rung == "auto" else ""
        )
        print_result(rung, info, seconds, details)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--per-class", type=int, default=20, help="images of each new class")
    parser.add_argument("--before-per-class", type=int, default=2000, help="images of each known class")
    parser.add_argument("--before-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of each method")
    parser.add_argument("--source", type=Path, default=DEBIAN, metavar="FOLDER", help="default: %(default)s")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            show(Path(folder), seed, arguments)


if __name__ == "__main__":
    main()
