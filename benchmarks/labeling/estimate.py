"""How far what `megavit label` says of itself can be trusted, and what its order of images brings.

    python -m benchmarks.labeling.estimate photos/clothing --draws 100 --labels 40,100

Takes a folder of train/CLASS/* and val/CLASS/*, of which each image is described once. In each draw some of them are a
heap without labels, which an oracle labels in the page's order; the accuracy that the page then estimates, from the
heap alone, is compared with that on all other images: its bias, its deviation, and how often the 95% interval holds it.
`--random` also labels the same heaps in random order. The order here is that of `megavit label` with a fit after each
five labels.
"""

import argparse
import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean, pstdev, stdev

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from benchmarks.labeling.oracle import compute_all, make_heap
from megavit.config.recipe import AUTO
from megavit.labeling.images import list_images
from megavit.labeling.learning.estimate import Estimate, Estimator
from megavit.labeling.learning.features import load_features
from megavit.labeling.learning.order import choose_diverse, measure_density, mix, score_usefulness
from megavit.labeling.learning.probe import GrowingProbe, Scaling
from megavit.runtime.device import pick_device
from megavit.training.progress import NullReporter

STEP = 5


@dataclass
class Point:
    """What draws have brought at one number of labels."""

    truth: list[float] = field(default_factory=list)
    random_order: list[float] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)

    def summarize(self) -> dict[str, float]:
        pairs = [(one.accuracy, true) for one, true in zip(self.estimates, self.truth, strict=True) if one.accuracy]
        errors = [found.value - true for found, true in pairs]
        summary = {
            "accuracy": fmean(self.truth),
            "random_images": fmean(one.images for one in self.estimates),
            "estimates": len(pairs),
        }
        if pairs:
            summary |= {
                "bias": fmean(errors),
                "deviation": pstdev(errors),
                "coverage": fmean(found.low <= true <= found.high for found, true in pairs),
            }
        if self.random_order:
            gains = [ours - other for ours, other in zip(self.truth, self.random_order, strict=True)]
            error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
            summary |= {"random_order": fmean(self.random_order), "gain": fmean(gains), "gain_error": error}
        return summary


class Heap:
    """Some of the images without labels, the others to measure on."""

    def __init__(self, rows: Tensor, labels: Tensor, count: int, seed: int) -> None:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        heap, others = order[:count], order[count:]
        scaling = Scaling.of(rows[heap])
        self.rows, self.targets = scaling(rows[heap]), F.one_hot(labels[heap], int(labels.max()) + 1).float()
        self.test_rows, self.truth = scaling(rows[others]), labels[others]
        self.digests = [hashlib.sha256(f"{seed} {index}".encode()).digest() for index in range(count)]
        self.random = sorted(range(count), key=lambda index: self.digests[index])

    def label(self, points: dict[int, Point]) -> None:
        """Label as the page does, and add what it is like at some numbers of labels."""
        probe, estimator, labeled = GrowingProbe("classification"), Estimator("classification"), list[int]()
        density = measure_density(self.rows)
        useful = choose_diverse(self.rows, density, STEP)
        while len(labeled) < max(points):
            decided = set(labeled)
            teaching = [one for one in useful if one not in decided]
            labeled += islice(mix(teaching, [one for one in self.random if one not in decided], len(labeled)), STEP)
            places, undecided = torch.tensor(labeled), torch.ones(len(self.rows), dtype=torch.bool)
            undecided[places] = False
            if self.targets[places].any(dim=0).sum() < 2:
                continue
            probe.fit(self.rows[places], self.targets[places])
            if len(labeled) in points:
                points[len(labeled)].truth.append(self.measure(probe))
                points[len(labeled)].estimates.append(self.estimate(estimator, labeled))
            open_ = undecided.nonzero().flatten()
            usefulness = score_usefulness(
                probe.predict(self.rows[open_]), self.targets[places].sum(0), "classification"
            )
            chosen = choose_diverse(self.rows[open_], usefulness * density[open_], STEP, self.rows[places])
            useful = open_[torch.tensor(chosen)].tolist()

    def label_randomly(self, points: dict[int, Point]) -> None:
        """Label in random order."""
        for count, point in points.items():
            places, probe = torch.tensor(self.random[:count]), GrowingProbe("classification")
            for _ in range(3):
                probe.fit(self.rows[places], self.targets[places])
            point.random_order.append(self.measure(probe))

    def measure(self, probe: GrowingProbe) -> float:
        return (probe.predict(self.test_rows).argmax(dim=1) == self.truth).double().mean().item()

    def estimate(self, estimator: Estimator, labeled: list[int]) -> Estimate:
        decided = set(labeled)
        drawn = set(islice(self.random, next(place for place, one in enumerate(self.random) if one not in decided)))
        places, random = torch.tensor(labeled), torch.tensor([one in drawn for one in labeled])
        classes = [str(number) for number in range(self.targets.shape[1])]
        digests = [self.digests[one] for one in labeled]
        *_, found = estimator.estimate(self.rows[places], self.targets[places], random, digests, classes)
        assert found is not None
        return found


def describe(data: Path, source: str) -> tuple[Tensor, Tensor]:
    """Return the features of all images (N, D), and their classes (N,)."""
    with tempfile.TemporaryDirectory() as work:
        labels: dict[str, str] = {}
        for seed, part in enumerate(("train", "val")):
            labels |= make_heap(data / part, Path(work), seed)
        images = list_images(Path(work))
        features = load_features(source, images, range(len(images.names)), pick_device("cpu"), NullReporter())
        classes = sorted(set(labels.values()))
        return compute_all(features, images), torch.tensor([classes.index(labels[name]) for name in images.names])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--images", type=int, default=1_500, help="images of a heap")
    parser.add_argument("--labels", default="40,100", help="multiples of five")
    parser.add_argument("--from", dest="source", default=AUTO)
    parser.add_argument("--random", action="store_true")
    arguments = parser.parse_args()
    rows, labels = describe(arguments.data, arguments.source)
    points = {int(count): Point() for count in arguments.labels.split(",")}
    for seed in range(arguments.draws):
        heap = Heap(rows, labels, arguments.images, seed)
        heap.label(points)
        if arguments.random:
            heap.label_randomly(points)
    Console().print_json(json.dumps({count: point.summarize() for count, point in points.items()}))


if __name__ == "__main__":
    main()
