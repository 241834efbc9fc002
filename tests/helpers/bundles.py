"""Small bundles, made without any training, for tests of whatever reads one."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.ensemble import Member
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.data.dataset import Sample, samples_csv, write_samples
from megavit.model.outputs.ensemble import Ensemble
from megavit.model.vit import MegaVit
from megavit.weights.bundle.bundle import save_bundle
from megavit.weights.bundle.info import BundleInfo

LABELS = ("cat", "dog", "newt")
MEMBERS = [Member(fold=2, temperature=0.5), Member(fold=1, temperature=2.0)]


def make_model(classes: int = len(LABELS), *, channels: int = 3, seed: int = 0, **changes: Any) -> MegaVit:
    """A model of 8 × 8 pixels whose every weight is drawn anew, so that its answers differ by picture and seed."""
    settings: dict[str, Any] = {
        "image_size": 8,
        "patch_size": 4,
        "num_classes": classes,
        "dim": 8,
        "depth": 2,
        "heads": 2,
        "dim_head": 4,
        "mlp_dim": 16,
        "pool": "mean",
        "channels": channels,
    }
    model = MegaVit(**(settings | changes))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=random)
    return model


def make_info(model: MegaVit, labels: Sequence[str] = LABELS, **changes: Any) -> BundleInfo:
    height, width = model.config.image_hw
    facts: dict[str, Any] = {
        "model": model.config,
        "labels": list(labels),
        "preprocessing": Preprocessing(height=height, width=width, channels=model.config.channels),
        "created": "2026-11-01T12:00:00+00:00",
        "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "images": 40},
        "data": {"source": "photos", "division": "10% for the test.", "counts": {"train": 320}},
        "recipe": {"run": {"epochs": 3}},
    }
    return BundleInfo(**(facts | changes))


def make_samples(folder: Path, samples: Sequence[Sample] = (), labels: Sequence[str] = LABELS) -> Path:
    path = folder / "listed.csv"
    write_samples(path, samples, labels)
    return path


def reference_images(channels: int = 3) -> list[Tensor]:
    """One of the size of `make_model`, one larger and oblong, and one of gray where the model takes gray."""
    random = torch.Generator().manual_seed(0)
    sizes = [(channels, 8, 8), (channels, 17, 30), (1 if channels in (1, 3) else channels, 12, 9)]
    return [torch.randint(0, 256, size, dtype=torch.uint8, generator=random) for size in sizes]


def make_bundle(
    folder: Path,
    model: MegaVit | None = None,
    labels: Sequence[str] = LABELS,
    samples: Sequence[Sample] = (),
    tensors: Mapping[str, Tensor] | None = None,
    **changes: Any,
) -> MegaVit:
    """Write a bundle to `folder`, and answer with its model in evaluation mode; `tensors` are of its calibration."""
    model = make_model(len(labels)) if model is None else model
    folder.parent.mkdir(parents=True, exist_ok=True)
    listed = make_samples(folder.parent, samples, labels)
    info, reference = make_info(model, labels, **changes), reference_images(model.config.channels)
    save_bundle(folder, model, info, reference=reference, samples=listed.read_bytes(), calibration_tensors=tensors)
    listed.unlink()
    return model.eval()


def save_ensemble(folder: Path) -> Path:
    """Write a bundle of two models, with the seeds 0 and 1 and the calibration of `MEMBERS`, and return its folder."""
    models = [make_model(seed=seed) for seed in (0, 1)]
    save_bundle(
        folder,
        Ensemble(models, MEMBERS, Target()),
        make_info(models[0], ensemble=MEMBERS, metrics={}),
        reference=reference_images(),
        samples=samples_csv((), LABELS),
    )
    return folder


def edit_bundle_info(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what `megavit.json` says, in place."""
    path = folder / "megavit.json"
    table = json.loads(path.read_bytes())
    change(table)
    if "sha256" in table:
        said = {key: value for key, value in table.items() if key != "sha256"}
        table["sha256"] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(table))


def reseal_bundle(folder: Path) -> None:
    """Make the SHA-256 in `megavit.json` those of the files as they are, as one who tampers would."""
    info = json.loads((folder / "megavit.json").read_bytes())
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in info["files"]}
    edit_bundle_info(folder, lambda table: table.update(files=sums))
