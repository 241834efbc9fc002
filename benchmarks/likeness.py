"""Which figure tells images unlike training best: the choice in `megavit.predict.postprocess.ood`, measured.

    python -m benchmarks.likeness BUNDLE DATA [--foreign NAME=FOLDER ...] [--json FILE]

DATA has training and test images of the bundle's classes. Strange are the FOLDERs' images, scikit-learn's digits,
noise, and DATA's test images turned by a quarter and inverted, which still show what they showed. Each figure's area
under the ROC curve, test images against strange ones.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from benchmarks.trust import foreign, see
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.load import load_data
from megavit.engine.engine import ModelOutput
from megavit.predict.postprocess.ood import fit_mahalanobis_ood
from megavit.predict.predictor import Predictor, load

KNOWN, TESTED, ALTERED = 2_000, 5_000, 1_500
NEIGHBORS = 10
Figure = Callable[[ModelOutput], Tensor]


def figures(learned: ModelOutput, labels: Tensor) -> dict[str, Figure]:
    """Name -> what is the larger, the stranger an image."""
    nearest = fit_mahalanobis_ood(learned.pooled, labels)
    whole = fit_mahalanobis_ood(learned.pooled, torch.zeros_like(labels))
    known = F.normalize(learned.pooled, dim=1)

    def neighbors(seen: ModelOutput) -> Tensor:
        near = torch.cdist(F.normalize(seen.pooled, dim=1), known).topk(NEIGHBORS, largest=False)
        return near.values[:, -1]

    return {
        "Mahalanobis, nearest class": lambda seen: nearest.distance(seen.pooled),
        "relative Mahalanobis (arXiv 2106.09022)": lambda seen: (
            nearest.distance(seen.pooled).square() - whole.distance(seen.pooled).square()
        ),
        "Mahalanobis, all together": lambda seen: whole.distance(seen.pooled),
        "tenth nearest neighbor (arXiv 2204.06507)": neighbors,
        "energy (arXiv 2010.03759)": lambda seen: -seen.logits.logsumexp(dim=1),
        "largest probability (arXiv 1610.02136)": lambda seen: -seen.logits.softmax(dim=1).amax(dim=1),
    }


def spread(samples: tuple[Sample, ...], most: int) -> tuple[Sample, ...]:
    return samples[:: max(1, len(samples) // most)][:most]


def altered(predictor: Predictor, images: LabeledImages) -> dict[str, ModelOutput]:
    chosen = [images.load_pixels(sample) for sample in spread(images.in_split("test"), ALTERED)]
    random = torch.Generator().manual_seed(0)
    return {
        "noise": see(predictor, (torch.randint(256, one.shape, dtype=torch.uint8, generator=random) for one in chosen)),
        "turned": see(predictor, (one.rot90(dims=(1, 2)) for one in chosen)),
        "inverted": see(predictor, (255 - one for one in chosen)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("data")
    parser.add_argument("--foreign", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    predictor = load(arguments.bundle)
    images = load_data(arguments.data, DataRecipe(), lambda *_: None)
    place = [predictor.labels.index(name) for name in images.classes]
    training = spread(images.in_split("train"), KNOWN)
    learned = see(predictor, (images.load_pixels(sample) for sample in training))
    known = see(predictor, (images.load_pixels(sample) for sample in spread(images.in_split("test"), TESTED)))
    strange = foreign(predictor, arguments.foreign) | altered(predictor, images)
    found: dict[str, dict[str, float]] = {}
    for name, figure in figures(learned, torch.tensor([place[sample.label] for sample in training])).items():
        areas = {}
        for kind, seen in strange.items():
            values = torch.cat([figure(known), figure(seen)]).numpy()
            truth = np.r_[np.zeros(len(known.logits)), np.ones(len(seen.logits))]
            areas[kind] = round(float(roc_auc_score(truth, values)), 3)
        found[name] = areas | {"mean": round(float(np.mean(list(areas.values()))), 3)}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
