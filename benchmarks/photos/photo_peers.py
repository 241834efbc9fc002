"""One peer on one split of a folder of photographs, in a given time; the driver is `benchmarks.photos.photos`.

    python -m benchmarks.photos.photo_peers resnet18 FOLDER --minutes 3 --seed 0

Prints a JSON object. The images, their split and their augmentation are the package's own.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18
from transformers import AutoModel

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import AugmentRecipe, DataRecipe
from megavit.data.augment import augment, normalize
from megavit.data.image_dataset import ImageDataset, load_into_memory
from megavit.data.load import load_data
from megavit.evaluation.probes.hog import describe_images
from megavit.runtime.seeds import seed_all

# Settings of the prototype that the project's issue on photographs measured: a ResNet-18 at 64 pixels by AdamW.
RESNET_SIDE, CANVAS_SIDE, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 64, 72, 32, 1e-3, 0.05
AUGMENTATION = AugmentRecipe(crop=0.5, flip=True)
# Seconds before the end that are left for the answers.
FINISH_SECONDS = 4.0
HOG_SIDE, PROBE_SIDE = 32, 112
INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)
NEIGHBORS = 5


class Images(NamedTuple):
    """The uint8 images (N, 3, side, side) of a split, and their classes (N,)."""

    pixels: Tensor
    labels: Tensor


class Run(NamedTuple):
    """The settings of a run: folder, deadline on the clock of `time.monotonic`, seed, and the folder of a backbone."""

    folder: str
    deadline: float
    seed: int
    backbone: str


def ignore_progress(_done: int, _total: int) -> None: ...


def read_splits(folder: str, side: int) -> tuple[dict[str, Images], int]:
    """Return the images of each split at `side` pixels, and the number of classes."""
    dataset = load_data(folder, DataRecipe(), ignore_progress, required_splits=("val", "test"), verify="none")
    preprocessing = Preprocessing(height=side, width=side, channels=3)
    splits = {}
    for split in ("train", "val", "test"):
        samples = dataset.in_split(split)
        pixels = load_into_memory(ImageDataset(dataset, samples, preprocessing), 2, ignore_progress)
        assert isinstance(pixels, Tensor)  # as the aspect is not kept
        splits[split] = Images(pixels, torch.tensor([sample.label for sample in samples]))
    return splits, len(dataset.classes)


def train_resnet18(run: Run) -> dict[str, Any]:
    """Train a ResNet-18 from scratch until the deadline: linear warm-up and decay by the clock, averaged weights."""
    splits, classes = read_splits(run.folder, CANVAS_SIDE)
    train, preprocessing = splits["train"], Preprocessing(height=RESNET_SIDE, width=RESNET_SIDE, channels=3)
    seed_all(run.seed)
    model = resnet18(num_classes=classes).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average_weights, use_buffers=True)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99))
    began, steps, batch = time.monotonic(), 0, min(BATCH_SIZE, len(train.labels))
    while True:
        for indices in torch.randperm(len(train.labels)).split(batch):
            progress = (time.monotonic() - began) / (run.deadline - FINISH_SECONDS - began)
            if progress >= 1:
                return {"steps": steps, "epochs": round(steps * batch / len(train.labels), 1)} | {
                    split: resnet_accuracy(average, splits[split], preprocessing) for split in ("val", "test")
                }
            if len(indices) < batch:
                continue
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, progress / 0.1) * min(1.0, (1 - progress) / 0.6)
            inputs = normalize(augment(train.pixels[indices], preprocessing, AUGMENTATION), preprocessing)
            logits = model(inputs.to(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, train.labels[indices], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update_parameters(model)
            steps += 1


@torch.no_grad()
def average_weights(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
    """Update a moving average in place, which is shorter in the first steps so that a short run is not held back."""
    share = 1 - min(0.998, (int(count) + 1) / (int(count) + 10))
    for old, new in zip(averaged, current, strict=True):
        if old.is_floating_point():
            old.lerp_(new, share)
        else:
            old.copy_(new)


@torch.inference_mode()
def resnet_accuracy(model: nn.Module, images: Images, preprocessing: Preprocessing) -> float:
    """Return the accuracy of a convolutional model, with the answers for mirrored images added."""
    model.eval()
    answers = []
    for pixels in images.pixels.split(256):
        inputs = normalize(augment(pixels, preprocessing, AugmentRecipe()), preprocessing)
        answers.append(model(inputs).softmax(dim=1) + model(inputs.flip(3)).softmax(dim=1))
    return accuracy(torch.cat(answers).argmax(dim=1), images.labels)


def boost_hog(run: Run) -> dict[str, Any]:
    """Fit gradient boosting on histograms of gradients and colors; it takes the time that it takes."""
    splits, _ = read_splits(run.folder, HOG_SIDE)
    described = {split: describe_images(images.pixels).numpy() for split, images in splits.items()}
    model = HistGradientBoostingClassifier(max_iter=200, early_stopping=False, random_state=run.seed)
    model.fit(described["train"], splits["train"].labels.numpy())
    return {
        split: accuracy(torch.from_numpy(model.predict(described[split])), splits[split].labels)
        for split in ("val", "test")
    }


@torch.inference_mode()
def probe_by_hand(run: Run) -> dict[str, Any]:
    """Fit scikit-learn's logistic regression on a backbone's class token, its penalty chosen on validation images.

    The same class tokens answer by their nearest neighbors, too.
    """
    splits, _ = read_splits(run.folder, PROBE_SIDE)
    backbone = AutoModel.from_pretrained(run.backbone).eval()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocessing = Preprocessing(height=PROBE_SIDE, width=PROBE_SIDE, channels=3, mean=mean, std=std)
    features = {
        split: torch.cat(
            [backbone(normalize(pixels, preprocessing)).last_hidden_state[:, 0] for pixels in images.pixels.split(64)]
        ).numpy()
        for split, images in splits.items()
    }
    probes = [
        LogisticRegression(C=penalty, max_iter=500).fit(features["train"], splits["train"].labels.numpy())
        for penalty in INVERSE_PENALTIES
    ]

    def measure(probe: LogisticRegression, split: str) -> float:
        return accuracy(torch.from_numpy(probe.predict(features[split])), splits[split].labels)

    best = max(probes, key=lambda probe: measure(probe, "val"))
    neighbors = KNeighborsClassifier(min(NEIGHBORS, len(features["train"])), metric="cosine", weights="distance")
    neighbors.fit(features["train"], splits["train"].labels.numpy())
    nearest = accuracy(torch.from_numpy(neighbors.predict(features["test"])), splits["test"].labels)
    return {split: measure(best, split) for split in ("val", "test")} | {"nearest neighbors": nearest}


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    return round((predicted == labels).double().mean().item(), 4)


PEERS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "resnet18": train_resnet18,
    "boosting": boost_hog,
    "probe by hand": probe_by_hand,
}


def main() -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("folder")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default="", help="folder in the format of Hugging Face, for the probe by hand")
    arguments = parser.parse_args()
    run = Run(arguments.folder, began + 60 * arguments.minutes, arguments.seed, arguments.backbone)
    result = PEERS[arguments.peer](run)
    sys.stdout.write(json.dumps(result | {"seconds": round(time.monotonic() - began, 1)}) + "\n")


if __name__ == "__main__":
    main()
