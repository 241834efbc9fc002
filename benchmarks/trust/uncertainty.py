"""Uncertainty of a bundle's predictions: calibration, coverage, and out-of-distribution detection.

    python -m benchmarks.trust.uncertainty BUNDLE DATA [--foreign NAME=FOLDER ...] [--json FILE]

DATA is labeled images that the model was not trained on (of a folder with splits, its test images). Each FOLDER, and
scikit-learn's digits, has images that are nothing of the kind: the area under the ROC curve says how well the distance
from the training images separates them from DATA's, compared with the usual baseline, the probability of the likeliest
class (arXiv 1610.02136); and how many of each are flagged.
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
from megavit.evaluation.inference import select_split
from megavit.evaluation.uncertainty.measure import compute_uncertainty
from megavit.predict.predictor import Predictor, load
from megavit.weights.bundle.bundle import SAMPLES

BATCH_SIZE = 64
SUFFIXES = (".png", ".jpg", ".jpeg")


def run_model(predictor: Predictor, images: Iterator[Any]) -> ModelOutput:
    """Return the model's output for the images that can be read."""
    prepared = []
    for image in images:
        try:
            prepared.append(predictor.prepare(image))
        except ImageError:
            continue
    parts = [
        predictor.forward(make_batch(prepared[start : start + BATCH_SIZE], predictor.info.preprocessing))
        for start in range(0, len(prepared), BATCH_SIZE)
    ]
    return ModelOutput(*(torch.cat(part) for part in zip(*parts, strict=True)))


def run_on_foreign(predictor: Predictor, folders: Sequence[str]) -> dict[str, ModelOutput]:
    """Return the model's output for the digits and for each NAME=FOLDER."""
    digits = (np.uint8(pixels * 255 / 16) for pixels in load_digits(return_X_y=True)[0].reshape(-1, 8, 8))
    outputs = {"digits": run_model(predictor, iter(digits))}
    for argument in folders:
        name, folder = argument.split("=", 1)
        files = (path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in SUFFIXES)
        outputs[name] = run_model(predictor, files)
    return outputs


def measure_detection(predictor: Predictor, known: ModelOutput, foreign: ModelOutput) -> dict[str, float]:
    """Return the areas under the ROC curve, and the share of the foreign images that is flagged."""
    detector, flagged = predictor.calibrator.ood, predictor.calibrator.is_out_of_distribution(foreign.pooled)
    assert detector is not None and flagged is not None
    truth = np.r_[np.zeros(len(known.logits)), np.ones(len(foreign.logits))]
    distances = torch.cat([detector.distance(output.pooled) for output in (known, foreign)])
    confidence = torch.cat([predictor.calibrator.outputs(output.logits).amax(dim=1) for output in (known, foreign)])
    return {
        "images": len(foreign.logits),
        "auroc": float(roc_auc_score(truth, distances.numpy())),
        "auroc_of_probability": float(roc_auc_score(truth, -confidence.numpy())),
        "flagged": flagged.double().mean().item(),
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
    selection = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
    known = run_model(predictor, (images.load_pixels(sample) for sample in selection.samples))
    truth = target_tensor(selection.samples, predictor.target, len(predictor.labels))
    figures = {
        "images": len(truth),
        "accuracy": (known.logits.argmax(dim=1) == truth).double().mean().item(),
        "temperature": predictor.info.calibration.temperature,
        "uncertainty": compute_uncertainty(predictor.calibrator, known, truth).to_dict(),
        "foreign": {
            name: measure_detection(predictor, known, output)
            for name, output in run_on_foreign(predictor, arguments.foreign).items()
        },
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
