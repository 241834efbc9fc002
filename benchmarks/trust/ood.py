"""Compare scores for out-of-distribution detection: the choice in `megavit.predict.postprocess.ood`, measured.

    python -m benchmarks.trust.ood BUNDLE DATA [--foreign NAME=FOLDER ...] [--json FILE]

DATA has training and test images of the bundle's classes. Out of distribution are the FOLDERs' images, scikit-learn's
digits, noise, and DATA's test images rotated by 90° and inverted, which still show what they showed. Printed is each
score's area under the ROC curve, test images against these.
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

from benchmarks.trust.uncertainty import run_model, run_on_foreign
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.load import load_data
from megavit.engine.engine import ModelOutput
from megavit.predict.postprocess.ood import fit_mahalanobis_ood
from megavit.predict.predictor import Predictor, load

KNOWN, TESTED, ALTERED = 2_000, 5_000, 1_500
NEIGHBORS = 10
Score = Callable[[ModelOutput], Tensor]


def make_scores(learned: ModelOutput, labels: Tensor) -> dict[str, Score]:
    """Return scores by name, each the larger, the less an image is like those of training."""
    by_class = fit_mahalanobis_ood(learned.pooled, labels)
    together = fit_mahalanobis_ood(learned.pooled, torch.zeros_like(labels))
    known = F.normalize(learned.pooled, dim=1)

    def neighbors(output: ModelOutput) -> Tensor:
        near = torch.cdist(F.normalize(output.pooled, dim=1), known).topk(NEIGHBORS, largest=False)
        return near.values[:, -1]

    return {
        "Mahalanobis, nearest class": lambda output: by_class.distance(output.pooled),
        "relative Mahalanobis (arXiv 2106.09022)": lambda output: (
            by_class.distance(output.pooled).square() - together.distance(output.pooled).square()
        ),
        "Mahalanobis, all together": lambda output: together.distance(output.pooled),
        "tenth nearest neighbor (arXiv 2204.06507)": neighbors,
        "energy (arXiv 2010.03759)": lambda output: -output.logits.logsumexp(dim=1),
        "largest probability (arXiv 1610.02136)": lambda output: -output.logits.softmax(dim=1).amax(dim=1),
    }


def subsample(samples: tuple[Sample, ...], size: int) -> tuple[Sample, ...]:
    return samples[:: max(1, len(samples) // size)][:size]


def run_on_altered(predictor: Predictor, images: LabeledImages) -> dict[str, ModelOutput]:
    chosen = [images.load_pixels(sample) for sample in subsample(images.in_split("test"), ALTERED)]
    random = torch.Generator().manual_seed(0)
    return {
        "noise": run_model(
            predictor, (torch.randint(256, one.shape, dtype=torch.uint8, generator=random) for one in chosen)
        ),
        "rotated": run_model(predictor, (one.rot90(dims=(1, 2)) for one in chosen)),
        "inverted": run_model(predictor, (255 - one for one in chosen)),
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
    indices = [predictor.labels.index(name) for name in images.classes]
    training = subsample(images.in_split("train"), KNOWN)
    learned = run_model(predictor, (images.load_pixels(sample) for sample in training))
    known = run_model(predictor, (images.load_pixels(sample) for sample in subsample(images.in_split("test"), TESTED)))
    foreign = run_on_foreign(predictor, arguments.foreign) | run_on_altered(predictor, images)
    results: dict[str, dict[str, float]] = {}
    for name, score in make_scores(learned, torch.tensor([indices[sample.label] for sample in training])).items():
        areas = {}
        for kind, output in foreign.items():
            values = torch.cat([score(known), score(output)]).numpy()
            truth = np.r_[np.zeros(len(known.logits)), np.ones(len(output.logits))]
            areas[kind] = round(float(roc_auc_score(truth, values)), 3)
        results[name] = areas | {"mean": round(float(np.mean(list(areas.values()))), 3)}
    sys.stdout.write(json.dumps(results, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
