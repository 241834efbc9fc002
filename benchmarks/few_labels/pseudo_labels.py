"""What pseudo-labels bring to a linear probe of a backbone, with foreign images among those without labels.

    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.pseudo_labels FOLDER FOLDER ... --labels 5 20 --seeds 0 1 2

Of each class, a fixed part is for the test, so many images have labels, a fifth of them for validation, and the rest
has none; a tenth as many images of the next folder are among these. This is what `megavit train --unlabeled --finetune
probe` does, on embeddings that are computed once, by the first backbone on this machine. The figures go to
results/learning/pseudo_labels.json; what is there already is not run again.
"""

import argparse
import random
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.few_labels.fewer_labels import choose_parts
from benchmarks.learning.results import RESULTS, add_run, is_measured
from megavit.config.recipe import DataRecipe, OptimizerRecipe, Recipe, RunRecipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.load import load_data
from megavit.evaluation.inference import embed_samples
from megavit.evaluation.probes.cross_validation import Fold
from megavit.training.backbone_engine import BackboneEngine, find_backbone_engine
from megavit.training.finetune.progressive import FrozenFeatures
from megavit.training.finetune.pseudo_labels.comparison import compare_pseudo_labels, fit_with_labels
from megavit.training.progress import NullReporter
from megavit.training.task import make_task

FILE = RESULTS / "pseudo_labels.json"
FOREIGN_SHARE = 0.1


@dataclass(frozen=True)
class Source:
    """A data set with the engine that embeds it."""

    images: LabeledImages
    backbone: BackboneEngine

    def embed(self, samples: list[Sample]) -> Tensor:
        return embed_samples(self.backbone.engine, self.images, samples, shared=self.backbone.shared)


def measure(own: Source, other: Source, labels: int, seed: int, confidence: float) -> dict[str, Any]:
    """Return the figures of one division of a data set, with foreign images of another one."""
    parts = choose_parts(own.images, labels, seed)
    known = {sample.digest for split in ("train", "val", "test") for sample in parts[split]}
    unlabeled = [sample for sample in parts["unlabeled"] if sample.digest not in known]
    foreign = random.Random(seed).sample(other.images.samples, round(FOREIGN_SHARE * len(unlabeled)))
    training, pool = parts["train"], [*parts["train"], *parts["val"]]
    splits = [*(replace(one, split="train") for one in training), *(replace(one, split="val") for one in parts["val"])]
    recipe = Recipe(optimizer=OptimizerRecipe(label_smoothing=0.0), run=RunRecipe(seed=seed))
    recipe = replace(recipe, data=DataRecipe(balance="none"))
    preprocessing, dataset = own.backbone.engine.preprocessing, replace(own.images, samples=tuple(splits))
    task = make_task(recipe, preprocessing, dataset, torch.device("cpu"))
    whole = Fold(torch.arange(len(training)), torch.arange(len(training), len(pool)))
    classes = torch.tensor([sample.label for sample in pool])
    bias = torch.zeros(len(own.images.classes))
    rows = torch.cat([own.embed(unlabeled), other.embed(foreign)])
    frozen = FrozenFeatures(own.embed(pool), classes, task, bias, seconds=0.0, split=whole)
    test, truth = own.embed(parts["test"]), torch.tensor([sample.label for sample in parts["test"]])

    began = time.process_time()
    probe = frozen.fit_probe(whole.train)
    probe_seconds, began = time.process_time() - began, time.process_time()
    pseudo = compare_pseudo_labels(frozen, rows, [sample.digest for sample in pool], confidence)
    student = pseudo.fit_probe(whole.train)
    seconds = time.process_time() - began
    found = pseudo.predict(whole.train)
    is_used, count = found.are_used(confidence), len(unlabeled)
    is_right = found.classes[:count] == torch.tensor([sample.label for sample in unlabeled])
    (tuned,) = fit_with_labels(pseudo.labeler, whole.train, found, 2.0, (pseudo.labeler.penalty,))
    before, alone, after = (
        float((one.logits(test).argmax(dim=1) == truth).double().mean()) for one in (probe, tuned, student)
    )
    return {
        "images": {"train": len(training), "val": len(parts["val"]), "test": len(truth)},
        "own": count,
        "foreign": len(foreign),
        "used_own": int(is_used[:count].sum()),
        "used_foreign": int(is_used[count:].sum()),
        "marked_own": int(found.is_outlier[:count].sum()),
        "marked_foreign": int(found.is_outlier[count:].sum()),
        "used_right": int(is_right[is_used[:count]].sum()),
        "without": before,
        "without_same_choice": alone,
        "with": after,
        "kept": after if pseudo.gain.is_better else before,
        "gain": asdict(pseudo.gain),
        "penalties": [probe.penalty, tuned.penalty, student.penalty],
        "probe_seconds": round(probe_seconds, 2),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 20], help="images of each class with labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--confidence", type=float, nargs="+", default=[0.5])
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    sources: list[Source] = []
    for folder in arguments.folders:
        images = load_data(folder, DataRecipe())
        backbone = find_backbone_engine(images, torch.device("cpu"), NullReporter())
        if backbone is None:
            sys.exit("there is no backbone on this machine: fetch one with megavit backbones")
        sources.append(Source(images, backbone))
    for index, own in enumerate(sources):
        other = sources[(index + 1) % len(sources)]
        for labels in arguments.labels:
            for seed in arguments.seeds:
                for confidence in arguments.confidence:
                    about = {"data": Path(own.images.source).name, "labels": labels, "seed": seed}
                    about |= {"foreign_data": Path(other.images.source).name, "confidence": confidence}
                    if not is_measured(arguments.out, about):
                        add_run(arguments.out, about | measure(own, other, labels, seed, confidence))


if __name__ == "__main__":
    main()
