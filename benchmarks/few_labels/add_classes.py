"""What classes that are added to a frozen bundle are worth beside a training with all classes from the start.

    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.add_classes DATA --last 2 --seeds 0 1 2 --train --from NAME \\
        --finetune probe --image-size 112 --epochs 1

The last classes of DATA, by name, are added to a bundle that was trained on the others, with all their training images
and with a few. What follows --train are options of megavit train, alike for both trainings. All are compared on the
same test images: each row has the accuracy on all of them, on those of the former classes and on those of the new ones,
the processor seconds of the training or addition, and the largest change of a former class's logit. The figures go to
results/learning/add_classes.json. With what a backbone computed in megavit's cache, a second run only fits heads.
"""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import megavit
from benchmarks.learning.results import RESULTS, read_results, write_results
from megavit.cli.app import run
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.load import load_data
from megavit.errors import MegavitError
from megavit.evaluation.inference import run_inference
from megavit.predict.predictor import Predictor

FILE = RESULTS / "add_classes.json"
FEW = (1, 3, 10, 30)


def link(images: LabeledImages, samples: list[Sample], folder: Path, layout: str) -> None:
    """Link images into folders named by split and class, as the layout says."""
    assert images.root is not None
    for sample in samples:
        name = images.classes[sample.label]
        target = folder / layout.format(split=sample.split, name=name) / sample.name.replace("/", "-")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((images.root / sample.name).absolute())


def train(data: Path, out: Path, seed: int, options: list[str]) -> float:
    began = time.process_time()
    code = run(["train", str(data), "--out", str(out), "--seed", str(seed), *options])
    if code:
        sys.exit(f"the training of {out.name} ended with exit code {code}")
    return time.process_time() - began


def compute_logits(predictor: Predictor, images: LabeledImages) -> torch.Tensor:
    """Return the logits of the test images, with the classes in the order of their names."""
    order = [predictor.labels.index(name) for name in images.classes if name in predictor.labels]
    return run_inference(predictor, images, images.in_split("test"), 64, lambda *_: None).logits[:, order]


def accuracies(logits: torch.Tensor, labels: torch.Tensor, former: int) -> dict[str, float]:
    is_right, is_new = logits.argmax(dim=1) == labels, labels >= former
    parts = {"all": is_right, "former": is_right[~is_new], "new": is_right[is_new]}
    return {name: round(part.double().mean().item(), 4) for name, part in parts.items()}


def measure(images: LabeledImages, last: int, seed: int, options: list[str]) -> list[dict[str, object]]:
    """Return a row for each way in which the classes came into the model."""
    former, labels = len(images.classes) - last, torch.tensor([sample.label for sample in images.in_split("test")])
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        new = [sample for sample in images.samples if sample.label >= former]
        link(
            images, [sample for sample in images.samples if sample.label < former], folder / "former", "{split}/{name}"
        )
        link(images, list(images.samples), folder / "all", "{split}/{name}")
        for way in ("all", "former"):
            seconds = train(folder / way, folder / f"run-{way}", seed, options)
            logits = compute_logits(megavit.load(folder / f"run-{way}"), images)
            if way == "all":
                found = accuracies(logits, labels, former)
            else:
                found = {"former": accuracies(logits[labels < former], labels[labels < former], former)["all"]}
            rows.append({"way": f"trained on {way} classes", "processor_seconds": round(seconds, 1), **found})
        before = compute_logits(megavit.load(folder / "run-former"), images)
        for count in (*FEW, None):
            place = folder / f"new-{count}"
            order = torch.randperm(len(new), generator=torch.Generator().manual_seed(seed)).tolist()
            kept: dict[int, int] = {}
            for sample in (new[position] for position in order):
                if sample.split == "test" or (sample.split == "train" and kept.get(sample.label, 0) != count):
                    kept[sample.label] = kept.get(sample.label, 0) + (sample.split == "train")
                    link(images, [sample], place, "{name}/{split}")
                elif sample.split == "val" and count is None:
                    link(images, [sample], place, "{name}/{split}")
            began = time.process_time()
            added = megavit.add_classes(folder / "run-former", sorted(place.iterdir()), out=folder / f"added-{count}")
            seconds = time.process_time() - began
            after = compute_logits(megavit.load(added), images)
            rows.append(
                {
                    "way": f"added with {'all' if count is None else count} images",
                    "processor_seconds": round(seconds, 1),
                    **accuracies(after, labels, former),
                    "change": (after[:, :former] - before).abs().max().item(),
                    "told_apart": {one.name: [one.nearest_class, one.told_apart] for one in added.added},
                    "advice": added.advice,
                    "ece": None if added.uncertainty.calibrated is None else added.uncertainty.calibrated.ece.value,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with one subfolder per class, perhaps within splits")
    parser.add_argument("--last", type=int, default=2, help="number of classes that are added")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", nargs=argparse.REMAINDER, default=[], help="options of megavit train")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        images = load_data(arguments.data, DataRecipe(seed=seed))
        results = read_results(FILE)
        about = {"data": arguments.data.name, "last": arguments.last, "seed": seed}
        results["runs"] += [about | row for row in measure(images, arguments.last, seed, arguments.train)]
        write_results(FILE, results)


if __name__ == "__main__":
    try:
        main()
    except MegavitError as error:
        sys.exit(str(error))
