"""Bundles of many kinds with random weights, and their exports, each made once for all of xdist's workers."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytest
import torch

from megavit.config.calibration import Calibration
from megavit.config.export_info import ExportPrecision
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.exporting.export import export
from megavit.exporting.parity import ParityResult
from megavit.exporting.parity_images import ParityImage
from megavit.exporting.resize import input_channels
from megavit.predict.postprocess.ood import fit_mahalanobis_ood
from megavit.predict.postprocess.postprocess import MEANS, RESIDUALS, SET_LABELS, SET_SCORES, WHITENING
from megavit.predict.predictor import Predictor, load
from tests.engine.test_openvino import grown
from tests.helpers.bundles import make_bundle
from tests.helpers.shared_folder import BuildOnce

SMALL: dict[str, Any] = {
    "image_size": (12, 16),
    "patch_size": 4,
    "num_classes": 3,
    "dim": 32,
    "depth": 2,
    "heads": 2,
    "dim_head": 16,
    "mlp_dim": 48,
    "pool": "mean",
}
LABELS = ("cat", "dog", "newt")
ROPE = Design(positions="rope", mlp="swiglu", registers=2)
CASES: dict[str, dict[str, Any]] = {
    "plain": {"design": PLAIN_VIT, "pool": "cls"},
    "attention pooling": {"pool": "map"},
    "class token and mean": {"pool": "cls_mean", "design": ROPE},
    "gray": {"channels": 1},
    "four channels": {"channels": 4},
    "multilabel, rotary": {"target": Target(kind="multilabel", thresholds=[0.2, 0.5, 0.6]), "design": ROPE},
    "regression, middle rounded down, and not all of it": {
        "num_classes": 1,
        "target": Target(kind="regression", mean=40.0, std=7.0),
        "resize": 21,
        "crop_size": (14, 18),
        "crop_rounding": "floor",
    },
    "features alone": {"num_classes": 0},
    "middle cut out": {"resize": 21},
    "middle of a rectangle": {"resize": (17, 19), "interpolation": "bilinear"},
    "not rounded": {"resize": 21, "resize_dtype": "float32", "interpolation": "bilinear"},
}

WIDE = {"dim": 256, "mlp_dim": 1024}
"""For exports in fewer bits, whose weights must outweigh the rest."""


class ExportedCase(NamedTuple):
    predictor: Predictor
    folder: Path
    result: ParityResult


class ExportCase(Protocol):
    """Exports one of `CASES`, calibrated, or "wide", which is not; whoever gets the folder only reads it."""

    def __call__(self, target: str, case: str, precision: ExportPrecision = "float32") -> ExportedCase: ...


@pytest.fixture(scope="session")
def export_case(build_once: BuildOnce) -> ExportCase:
    def made(target: str, case: str, precision: ExportPrecision = "float32") -> ExportedCase:
        def fill(folder: Path) -> None:
            predictor = make_predictor(folder / "flowers", case != "wide", **(WIDE if case == "wide" else CASES[case]))
            settings: dict[str, Any] = {"precision": precision, "max_accuracy_drop": 100, "source": "6 pictures"}
            result = export(predictor, target, folder / "out", parity_images(predictor), **settings)
            (folder / "result").write_bytes(pickle.dumps(result))

        folder = build_once(f"{target}-{case}-{precision}", fill)
        result: ParityResult = pickle.loads((folder / "result").read_bytes())
        return ExportedCase(load_with_pytorch(folder / "flowers"), folder / "out", result)

    return made


def load_with_pytorch(folder: Path) -> Predictor:
    """It stays with PyTorch, however busy the machine is."""
    predictor = load(folder, device="cpu")
    predictor.engine.patience = float("inf")
    return predictor


def parity_images(predictor: Predictor) -> list[ParityImage]:
    channels = input_channels(predictor.info.preprocessing)
    return [ParityImage(f"picture {index}", pixels, index % 3) for index, pixels in enumerate(make_images(channels))]


def make_predictor(folder: Path, trusted: bool = False, **changes: Any) -> Predictor:
    """Of a bundle in `folder`; `trusted` gives it what calibration does."""
    target = changes.pop("target", Target())
    cut = ("resize", "interpolation", "crop_size", "crop_rounding", "resize_dtype")
    size = {name: changes.pop(name) for name in cut if name in changes}
    settings = SMALL | changes
    config = ViTConfig(**settings)
    torch.manual_seed(0)
    model = grown(config)
    height, width = config.image_hw
    mean, std = (tuple(start + 0.07 * i for i in range(config.channels)) for start in (0.4, 0.2))
    preprocessing = Preprocessing(height=height, width=width, channels=config.channels, mean=mean, std=std, **size)
    calibration, tensors = (Calibration(), None) if not trusted else _trust(config, target)
    labels = () if target.kind == "regression" or not config.num_classes else LABELS
    if not config.num_classes:
        tensors = {name: tensors[name] for name in (MEANS, WHITENING)} if tensors else None
    make_bundle(
        folder,
        model,
        labels,
        tensors=tensors,
        preprocessing=preprocessing,
        target=target,
        calibration=calibration,
        metrics={},
    )
    return load_with_pytorch(folder)


def _trust(config: ViTConfig, target: Target) -> tuple[Calibration, dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    groups = torch.arange(60) % 3
    embeddings = torch.randn(60, config.pooled_dim, generator=random) + groups[:, None]
    likeness = fit_mahalanobis_ood(embeddings, groups)
    tensors = {MEANS: likeness.means, WHITENING: likeness.whitening}
    if target.kind == "regression":
        tensors[RESIDUALS] = torch.rand(40, generator=random)
    elif target.kind == "classification":
        tensors |= {SET_SCORES: torch.rand(300, generator=random), SET_LABELS: torch.arange(300) % 3}
    smoothing = 0.1 if target.kind == "classification" else 0.0
    return Calibration(images=40, temperature=1.3, smoothing=smoothing, ood_threshold=9.0), tensors


def make_images(channels: int, count: int = 6, seed: int = 0) -> list[np.ndarray]:
    """uint8 (H, W, C) of several sizes, two of each; smooth, as real ones are."""
    random = np.random.default_rng(seed)
    found = []
    for place in range(count):
        height, width = [(12, 16), (31, 17), (9, 40)][place // 2 % 3]
        coarse = random.integers(0, 256, (4, 5, channels), dtype=np.uint8)
        rows, columns = np.arange(height) * 4 // height, np.arange(width) * 5 // width
        found.append(np.ascontiguousarray(coarse[rows][:, columns]))
    return found
