"""Bundles whose outputs mean different things, Hugging Face folders likewise, and photographs to ask them about."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_sample_images

from megavit.config.calibration import Calibration
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.config.vit import PLAIN_VIT, ViTConfig
from megavit.data.dataset import samples_csv
from megavit.model.vit import MegaVit
from megavit.weights.bundle.bundle import save_bundle
from megavit.weights.bundle.info import BundleInfo
from megavit.weights.pretrained.to_bundle import reference_images

LABELS = ("night", "a cat", "indoor | lit")
SIDE = 32


@dataclass(frozen=True)
class Case:
    """What a bundle's outputs mean, and how they were calibrated."""

    target: Target
    calibration: Calibration = Calibration()  # noqa: RUF009 - frozen
    labels: tuple[str, ...] = LABELS


CALIBRATED = Calibration(images=100, temperature=2.68)
MULTILABEL = Target(kind="multilabel", thresholds=[0.2, 0.5, 0.9])
CASES = {
    "classification": Case(Target()),
    "calibrated classes": Case(Target(), CALIBRATED),
    "multilabel": Case(MULTILABEL),
    "calibrated labels": Case(MULTILABEL, replace(CALIBRATED, temperature=0.4)),
    "one label": Case(Target(kind="multilabel", thresholds=[0.3]), labels=("night",)),
    "regression": Case(Target(kind="regression", mean=165.0, std=12.5, median=160.0), labels=()),
}
# Bundles that no other library can express.
REFUSED = {
    "smoothed classes": Case(Target(), replace(CALIBRATED, smoothing=0.05)),
    "one class": Case(Target(), labels=("night",)),
}


def write_photographs(folder: Path) -> list[Path]:
    """Write pieces of scikit-learn's two photographs, of several shapes, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, pixels in enumerate(load_sample_images().images):
        for j, (height, width) in enumerate(((427, 640), (301, 200), (64, 64))):
            paths.append(folder / f"{i}-{j}.png")
            Image.fromarray(np.ascontiguousarray(pixels[:height, -width:])).save(paths[-1])
    return paths


def write_case(folder: Path, case: Case) -> Path:
    """Write a small bundle with weights shaken away from their initial values, and return its folder."""
    outputs = len(case.labels) or 1
    sizes: dict[str, Any] = {"dim": 48, "depth": 2, "heads": 4, "dim_head": 12, "mlp_dim": 96}
    config = ViTConfig(image_size=SIDE, patch_size=8, num_classes=outputs, design=PLAIN_VIT, **sizes)
    torch.manual_seed(0)
    model = MegaVit.from_config(config).eval()
    perturb_weights(model)
    info = BundleInfo(
        model=config,
        labels=list(case.labels),
        preprocessing=Preprocessing(height=SIDE, width=SIDE, channels=3, interpolation="bilinear"),
        created="2026-11-01T12:00:00+00:00",
        metrics={},
        data={"source": "nowhere"},
        recipe={},
        target=case.target,
        calibration=case.calibration,
    )
    save_bundle(folder, model, info, reference=reference_images(3), samples=samples_csv((), ()))
    return folder


@torch.no_grad()
def perturb_weights(model: torch.nn.Module, scale: float = 0.1) -> None:
    """Move every weight away from its initial value, at random."""
    for parameter in model.parameters():
        parameter.add_(scale * torch.randn_like(parameter))


THREE_LABELS = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
# problem_type in a config.json of transformers, with the kind of target that it means.
PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "none": (THREE_LABELS, "classification"),
    "single_label_classification": (THREE_LABELS | {"problem_type": "single_label_classification"}, "classification"),
    "multi_label_classification": (THREE_LABELS | {"problem_type": "multi_label_classification"}, "multilabel"),
    "multi_label, one output": ({"num_labels": 1, "problem_type": "multi_label_classification"}, "multilabel"),
    "none, one output": ({"num_labels": 1}, "multilabel"),
    "none, two outputs without names": ({"num_labels": 2}, "classification"),
    "regression": ({"num_labels": 1, "problem_type": "regression"}, "regression"),
}
ARCHITECTURES = ("ViT", "DeiT", "ViTMSN", "IJepa", "Siglip")


def write_transformers(folder: Path, architecture: str, settings: dict[str, Any]) -> Path:
    """Have transformers write a small classifier of its own, and the processor that goes with it."""
    sizes = {
        "image_size": SIDE,
        "patch_size": 8,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
    }
    library: Any = transformers
    config_arguments = {"vision_config": sizes} if architecture == "Siglip" else sizes
    config = getattr(library, f"{architecture}Config")(**config_arguments, **settings)
    torch.manual_seed(0)
    model = getattr(library, f"{architecture}ForImageClassification")(config).eval()
    perturb_weights(model)
    model.save_pretrained(folder)
    library.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder
