"""How far a bundle's answers may be trusted: calibration, coverage, and images unlike those of training.

    python -m benchmarks.trust BUNDLE DATA [--foreign NAME=FOLDER ...] [--json FILE]

DATA is labeled images that the model has not learned from (of a folder with splits, its test images). Each FOLDER, and
scikit-learn's digits, has images that are nothing of the kind: the area under the ROC curve says how well the distance
from training tells them from DATA's, beside the likeliest class's probability, which is the usual baseline (arXiv
1610.02136); and so many of each are marked.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from megavit.config.recipe import DataRecipe
from megavit.data.dataset import read_samples
from megavit.data.image_dataset import make_batch
from megavit.data.load import load_data
from megavit.data.targets import target_tensor
from megavit.engine.engine import ModelOutput
from megavit.errors import ImageError
from megavit.evaluate.inference import select_split
from megavit.evaluate.uncertainty.uncertainty import compute_uncertainty
from megavit.predict.predictor import Predictor, load
from megavit.weights.bundle.bundle import SAMPLES

BATCH = 64
SUFFIXES = (".png", ".jpg", ".jpeg")


def see(predictor: Predictor, images: Iterator[Any]) -> ModelOutput:
    prepared = []
    for image in images:
        try:
            prepared.append(predictor.prepare(image))
        except ImageError:
            continue
    parts = [
        predictor.forward(make_batch(prepared[at : at + BATCH], predictor.info.preprocessing))
        for at in range(0, len(prepared), BATCH)
    ]
    return ModelOutput(*(torch.cat(part) for part in zip(*parts, strict=True)))


def foreign(predictor: Predictor, folders: Sequence[str]) -> dict[str, ModelOutput]:
    digits = (np.uint8(picture * 255 / 16) for picture in load_digits(return_X_y=True)[0].reshape(-1, 8, 8))
    found = {"digits": see(predictor, iter(digits))}
    for one in folders:
        name, folder = one.split("=", 1)
        files = (path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in SUFFIXES)
        found[name] = see(predictor, files)
    return found


def show_code_points(predictor: Predictor, known: ModelOutput, strange: ModelOutput) -> dict[str, float]:
    """Areas under the ROC curve, and the share of the strange ones that is marked."""
    likeness, unlike = predictor.calibrator.ood, predictor.calibrator.is_out_of_distribution(strange.pooled)
    assert likeness is not None and unlike is not None
    truth = np.r_[np.zeros(len(known.logits)), np.ones(len(strange.logits))]
    distances = torch.cat([likeness.distance(known.pooled), likeness.distance(strange.pooled)])
    sure = torch.cat([predictor.calibrator.outputs(part.logits).amax(dim=1) for part in (known, strange)])
    return {
        "images": len(strange.logits),
        "area": float(roc_auc_score(truth, distances.numpy())),
        "area_of_probability": float(roc_auc_score(truth, -sure.numpy())),
        "marked": unlike.double().mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("data")
    parser.add_argument("--foreign", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    predictor = load(arguments.bundle)
    images = load_data(arguments.data, DataRecipe(val=0, test=0), lambda *_: None)
    choice = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
    known = see(predictor, (images.load_pixels(sample) for sample in choice.samples))
    truth = target_tensor(choice.samples, predictor.target, len(predictor.labels))
    figures = {
        "images": len(truth),
        "accuracy": (known.logits.argmax(dim=1) == truth).double().mean().item(),
        "temperature": predictor.info.calibration.temperature,
        "trust": compute_uncertainty(predictor.calibrator, known, truth).to_dict(),
        "foreign": {
            name: show_code_points(predictor, known, strange)
            for name, strange in foreign(predictor, arguments.foreign).items()
        },
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
