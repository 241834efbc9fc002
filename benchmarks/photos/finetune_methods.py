"""What each method of fine-tuning brings for few and many images a class, beside nearest neighbors and a probe by hand.

    python -m benchmarks.photos.finetune_methods FOLDER ... --backbone NAME --backbone-folder FOLDER --images 5 20 100

Each run takes `--images` images a class from the training part of FOLDER, the same for every method, and measures on up
to 600 of the others. The figures go to results/learning/finetune_methods.json; what is there already is not run again.
"""

import argparse
import random
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.learning.results import RESULTS, add_run, is_measured
from benchmarks.photos.photo_peers import ignore_progress
from benchmarks.photos.photos import run_megavit, run_peer
from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data

FILE = RESULTS / "finetune_methods.json"
METHODS = ("auto", "probe", "last", "lora", "all")
BY_HAND = "probe by hand"
MAX_TEST = 600


def write_subset(folder: str, images: int, seed: int, out: Path) -> Path:
    """Write a folder with `images` training images a class and up to `MAX_TEST` test images, and return it."""
    samples = load_data(folder, DataRecipe(), ignore_progress, verify="none").samples
    shuffled = sorted(samples, key=lambda sample: sample.name)
    random.Random(seed).shuffle(shuffled)
    chosen: defaultdict[int, list[str]] = defaultdict(list)
    rest = []
    for sample in shuffled:
        assert isinstance(sample.target, int)
        if sample.split == "train" and len(chosen[sample.target]) < images:
            chosen[sample.target].append(sample.name)
        else:
            rest.append(sample.name)
    parts = {"train": [name for names in chosen.values() for name in names], "test": rest[:MAX_TEST]}
    for part, names in parts.items():
        for name in names:
            target = out / part / Path(name).parent.name / Path(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / name, target)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--backbone", required=True, help="name or folder for --from")
    parser.add_argument("--backbone-folder", required=True, help="the same in the format of Hugging Face")
    parser.add_argument("--images", type=int, nargs="+", default=[5, 20, 100], help="training images a class")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for folder in arguments.folders:
            for images in arguments.images:
                with tempfile.TemporaryDirectory() as temporary:
                    subset = write_subset(folder, images, seed, Path(temporary) / Path(folder).name)
                    for method in (BY_HAND, *arguments.methods):
                        about: dict[str, Any] = {"data": Path(folder).name, "images": images, "method": method}
                        about |= {"seed": seed} | ({} if method == BY_HAND else {"minutes": arguments.minutes})
                        if is_measured(arguments.out, about):
                            continue
                        if method == BY_HAND:
                            found = run_peer(BY_HAND, str(subset), 0, seed, arguments.backbone_folder)
                        else:
                            options = ("--finetune", method)
                            found = run_megavit(str(subset), arguments.backbone, arguments.minutes, seed, options)
                        add_run(arguments.out, about | found)


if __name__ == "__main__":
    main()
