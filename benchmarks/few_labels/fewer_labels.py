"""What pretraining without labels and a teacher bring with few labels: the same split, the same minutes, in turn.

    python -m benchmarks.few_labels.fewer_labels FOLDER ... --labels 5 20 100 --minutes 1 --teacher NAME

Of each class, a fixed part is for the test, and so many images have labels, a fifth of them for validation. The
pretraining sees all images but those for the test, which are the same for every seed, and is done once a folder.
Nothing else may run beside it, or, with OMP_NUM_THREADS=1, on another core only. The figures go to
results/learning/fewer_labels.json; what is there already is not run again.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.learning.results import RESULTS, add_run, is_measured
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.load import load_data

FILE = RESULTS / "fewer_labels.json"
TEST_SHARE, MAX_TEST = 0.25, 100
SCRATCH, PRETRAINED, PROBE, TEACHER, BACKBONE = "scratch", "pretrained", "probe of pretrained", "teacher", "backbone"


def link(folder: Path, root: Path, samples: list[Sample], classes: tuple[str, ...]) -> None:
    """Link the images of samples into the class folders of `folder`."""
    for number, sample in enumerate(samples):
        path = folder / classes[sample.label] / f"{number}-{Path(sample.name).name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(root.absolute() / sample.name)


def choose_parts(dataset: LabeledImages, labels: int, seed: int) -> dict[str, list[Sample]]:
    """Return the images of each class for train, val and test, and under "unlabeled" all but those for the test."""
    by_class: dict[int, list[Sample]] = defaultdict(list)
    for sample in sorted(dataset.samples, key=lambda sample: sample.digest):
        by_class[sample.label].append(sample)
    parts: dict[str, list[Sample]] = defaultdict(list)
    chosen = random.Random(seed)
    for label in sorted(by_class):
        samples = by_class[label]
        random.Random(0).shuffle(samples)  # the same test images for every seed
        count = min(MAX_TEST, round(TEST_SHARE * len(samples)))
        parts["test"] += samples[:count]
        rest = samples[count:]
        parts["unlabeled"] += rest
        known = chosen.sample(rest, min(labels, len(rest)))
        held_out = max(1, len(known) // 5)
        parts["val"] += known[:held_out]
        parts["train"] += known[held_out:]
    return parts


def divide(source: str, labels: int, seed: int, out: Path) -> tuple[Path, Path, dict[str, int]]:
    """Return a folder with train, val and test, one of all images but those for the test, and the counts."""
    dataset = load_data(source, DataRecipe())
    assert dataset.root is not None
    parts = choose_parts(dataset, labels, seed)
    for split in ("train", "val", "test"):
        link(out / "labeled" / split, dataset.root, parts[split], dataset.classes)
    link(out / "unlabeled", dataset.root, parts["unlabeled"], dataset.classes)
    return out / "labeled", out / "unlabeled", {name: len(samples) for name, samples in parts.items()}


def run_megavit(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "megavit", *map(str, arguments), "--json"]
    began = time.monotonic()
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout) | {"seconds": round(time.monotonic() - began, 1)}


class Trainings:
    """The trainings of one invocation, and the pretrainings of its folders."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments, self.work = arguments, work
        sizes = [("--model", arguments.model), ("--image-size", arguments.image_size)]
        self.sizes = [word for name, value in sizes if value for word in (name, value)]
        self._pretrained: dict[str, dict[str, Any]] = {}

    def describe(self, contender: str) -> dict[str, Any]:
        """Return the settings of a contender's training, as its results name them."""
        about = {"contender": contender, "minutes": self.arguments.minutes}
        about |= {"sizes": " ".join(self.sizes) if contender in (SCRATCH, TEACHER) else ""}
        return about | ({"pretrain_minutes": self.arguments.pretrain_minutes} if "pretrained" in contender else {})

    def train(self, contender: str, folder: str, labels: int, seed: int) -> dict[str, Any]:
        """Return the results of a contender on so many images of each class of a folder."""
        work = self.work / f"{Path(folder).name}-{labels}-{seed}-{contender.replace(' ', '-')}"
        labeled, unlabeled, counts = divide(folder, labels, seed, work)
        options: list[str | Path] = [
            "--minutes",
            str(self.arguments.minutes),
            "--seed",
            str(seed),
            "--out",
            work / "run",
        ]
        found: dict[str, Any] = {}
        if contender in (PRETRAINED, PROBE):
            pretrained = self._pretrain(folder, unlabeled)
            names = ("effective_rank", "dim", "neighbor_accuracy", "epochs", "seconds")
            found["pretraining"] = {key: pretrained[key] for key in names}
            options += ["--from", pretrained["folder"], *(["--finetune", "probe"] if contender == PROBE else [])]
        elif contender == BACKBONE:
            options += ["--from", self.arguments.teacher]
        else:
            options += self.sizes
            options += ["--teacher", self.arguments.teacher] if contender == TEACHER else ["--from", SCRATCH]
        trained = run_megavit("train", labeled, *options)
        return found | {"test": trained["test"]["accuracy"], "seconds": trained["seconds"], "images": counts}

    def _pretrain(self, folder: str, unlabeled: Path) -> dict[str, Any]:
        """Return the result of the pretraining of a folder, which is done once."""
        if folder not in self._pretrained:
            minutes, out = str(self.arguments.pretrain_minutes), self.work / Path(folder).name
            self._pretrained[folder] = run_megavit("pretrain", unlabeled, "--minutes", minutes, "--out", out)
        return self._pretrained[folder]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 20, 100], help="images of each class with labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=1.0, help="of each training")
    parser.add_argument("--pretrain-minutes", type=float, default=10.0)
    parser.add_argument("--teacher", help="name or folder for --teacher, and for --from; without it neither is run")
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="default: all, e.g. 'scratch' 'teacher'")
    parser.add_argument("--model", help="preset of the contenders from scratch, for --model")
    parser.add_argument("--image-size", help="pixels of the contenders from scratch, for --image-size")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    contenders = [SCRATCH, PRETRAINED, PROBE, *([TEACHER, BACKBONE] if arguments.teacher else [])]
    contenders = [name for name in contenders if name in (arguments.only or contenders)]
    with tempfile.TemporaryDirectory() as temporary:
        trainings = Trainings(arguments, Path(temporary))
        for seed, folder, labels in product(arguments.seeds, arguments.folders, arguments.labels):
            for contender in contenders:
                about = {"data": Path(folder).name, "labels": labels, "seed": seed} | trainings.describe(contender)
                if not is_measured(arguments.out, about):
                    add_run(arguments.out, about | trainings.train(contender, folder, labels, seed))


if __name__ == "__main__":
    main()
