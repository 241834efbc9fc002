"""What a cross-validation of demo:digits says, beside single runs, on test images that are in no fold.

    OMP_NUM_THREADS=1 python -m benchmarks.learning.folds --epochs 4 --folds 5 --seeds 0 1 2

A fifth of the digits is for testing. On the others, one model is trained for so many epochs, one for as many as all
folds have together, and those of the folds. Printed are the accuracy on the test images, and the one that the run
itself says: of a single run on a tenth of its images, of the cross-validation on all of them.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

import megavit
from megavit.evaluation.metrics.classification import ClassificationMetrics
from megavit.training.folds.plan import get_fold_dir

SETTINGS = {"run": {"precision": "float32", "device": "cpu", "batch_size": 64, "checkpoint_seconds": 1e6}}

Images = tuple[np.ndarray, np.ndarray]


def divide(seed: int) -> tuple[Images, Images]:
    """Return the images and labels to train on, and those to test on."""
    pixels, labels = load_digits(return_X_y=True)
    images, labels = np.asarray(pixels).reshape(-1, 8, 8).astype(np.uint8) * 15, np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = order[len(order) // 5 :], order[: len(order) // 5]
    return (images[train], labels[train]), (images[test], labels[test])


def predict(run: Path, images: np.ndarray) -> torch.Tensor:
    """Return the calibrated probabilities of a run's model."""
    predictor = megavit.load(run)
    prepared = torch.stack([predictor.prepare(image) for image in images])
    return torch.cat(list(predictor.outputs(prepared.split(64))))


def measure(folder: Path, epochs: int, folds: int, seed: int) -> dict[str, tuple[float, float | None]]:
    """Return the accuracy on the test images, and what the run says of itself, by the name of the model."""
    train, (images, labels) = divide(seed)
    truth = torch.from_numpy(labels)
    options: dict[str, Any] = {"model": "pico", "image_size": 8, "seed": seed, "report": False, "settings": SETTINGS}

    def accuracy(outputs: torch.Tensor) -> float:
        return (outputs.argmax(dim=1) == truth).double().mean().item()

    def said(run: megavit.Run) -> float:
        assert isinstance(run.metrics, ClassificationMetrics)
        return run.metrics.accuracy.value

    found: dict[str, tuple[float, float | None]] = {}
    for name, count in (("one model", epochs), ("one model, as long as all folds", folds * epochs)):
        run = megavit.train(train, out=folder / name, epochs=count, **options)
        found[name] = (accuracy(predict(run.folder, images)), said(run))
    run = megavit.train(train, out=folder / "folds", epochs=epochs, folds=folds, **options)
    assert run.cross_validation is not None
    members = [predict(get_fold_dir(run.folder, fold), images) for fold in range(1, folds + 1)]
    found["models of the folds, mean"] = (float(np.mean([accuracy(member) for member in members])), said(run))
    found["ensemble of the folds"] = (accuracy(torch.stack(members).mean(dim=0)), None)
    for sentence in run.cross_validation.describe():
        sys.stdout.write(f"seed {seed}  {sentence}\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        with TemporaryDirectory() as folder:
            found = measure(Path(folder), arguments.epochs, arguments.folds, seed)
        for name, (accuracy, own) in found.items():
            estimate = "" if own is None else f"  it says {own:6.1%}"
            sys.stdout.write(f"seed {seed}  {accuracy:6.1%}  {name}{estimate}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
