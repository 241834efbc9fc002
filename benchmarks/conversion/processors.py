"""How far apart other libraries' image processors and ours are, settings by settings.

    python -m benchmarks.conversion.processors                        # prints the table
    python -m benchmarks.conversion.processors --json processors.json # and writes every figure

The judges are transformers' own processors (as `AutoImageProcessor` loads them), timm's `create_transform` and
OpenCLIP's `image_transform`. Images are noise and a photograph, of sizes whose margins are odd and even, in RGB and
gray. The difference is the greatest, in the units that a model takes; in levels, it is of 255. Where the sides are not
whole patches, what a convolution leaves of theirs is compared.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import timm.data
import torch
from open_clip.transform import PreprocessCfg, image_transform
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from torch import Tensor
from transformers import AutoImageProcessor

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import PLAIN_VIT, ViTConfig
from megavit.data.augment import normalize
from megavit.data.decode.tensor import from_pillow
from megavit.data.image_dataset import preprocess
from megavit.errors import BundleError
from megavit.runtime.storage import write_file
from megavit.weights.pretrained.processors.image_processor import read_preprocessing

SIZES = ((640, 427), (641, 480), (224, 224), (37, 500), (1000, 33), (427, 640))  # width, height
MODES = ("RGB", "L")

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Settings of one image processor.

    Attributes:
        library: whose: "transformers", "timm" or "open_clip".
        name: what is tried.
        processor: preprocessor_config.json of transformers, `pretrained_cfg` of timm, `preprocess_cfg` of OpenCLIP.
        image_size, patch_size: of the model.
        model_type: in transformers' config.json.
    """

    library: str
    name: str
    processor: dict[str, Any]
    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    model_type: str = "vit"


@dataclass
class Row:
    """What came of a case: the greatest differences, or who refused it and why."""

    case: Case
    normalized: float = 0.0
    levels: float = 0.0
    refused: str = ""
    peer_error: str = ""
    worst: str = ""
    differences: dict[str, float] = field(default_factory=dict)


CLASSES = (
    "ViTImageProcessor",
    "DeiTImageProcessor",
    "BeitImageProcessor",
    "CLIPImageProcessor",
    "ChineseCLIPImageProcessor",
    "SiglipImageProcessor",
    "BitImageProcessor",
    "DINOv3ViTImageProcessor",
    "ConvNextImageProcessor",
    "EfficientNetImageProcessor",
    "BlipImageProcessor",
    "PvtImageProcessor",
    "OwlViTImageProcessor",
    "LevitImageProcessor",
    "PoolFormerImageProcessor",
    "PerceiverImageProcessor",
    "MobileViTImageProcessor",
    "Siglip2ImageProcessor",
    "VideoMAEImageProcessor",
)
NULLS = (
    "do_rescale",
    "do_normalize",
    "do_resize",
    "do_center_crop",
    "resample",
    "size",
    "rescale_factor",
    "image_mean",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "as the class has it": {},
    "do_normalize false": {"do_normalize": False},
    "do_rescale false": {"do_rescale": False},
    **{f"{name} null": {name: None} for name in NULLS},
    "neither": {"do_rescale": False, "do_normalize": False},
    "rescale_factor 1/127.5": {"rescale_factor": 1 / 127.5},
    "rescale_factor 1/127.5, do_normalize false": {"rescale_factor": 1 / 127.5, "do_normalize": False},
    "image_mean 0.5, image_std 0.25": {"image_mean": 0.5, "image_std": 0.25},
    "image_mean [0.3]": {"image_mean": [0.3], "image_std": [0.2]},
    "do_resize false": {"do_resize": False},
    "do_center_crop true": {"do_center_crop": True, "crop_size": 224},
    "do_center_crop false": {"do_center_crop": False},
    "size 224": {"size": 224},
    "size 256, crop 224": {"size": 256, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
    "size [240, 256], crop 224": {"size": [240, 256], "do_center_crop": True, "crop_size": 224},
    "size (239, 254), crop 224": {
        "size": {"height": 239, "width": 254},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
    },
    "shortest_edge 224, crop 224": {
        "size": {"shortest_edge": 224},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
    },
    "shortest_edge 256, crop 208 × 224": {
        "size": {"shortest_edge": 256},
        "do_center_crop": True,
        "crop_size": {"height": 208, "width": 224},
    },
    "shortest_edge 224, no crop": {"size": {"shortest_edge": 224}, "do_center_crop": False},
    "shortest_edge 200, crop 224": {"size": {"shortest_edge": 200}, "do_center_crop": True, "crop_size": 224},
    "longest_edge": {"size": {"longest_edge": 224}},
    "shortest_edge and longest_edge": {"size": {"shortest_edge": 224, "longest_edge": 400}},
    "max_height": {"size": {"max_height": 224, "max_width": 224}},
    "do_pad": {"do_pad": True, "size": {"height": 224, "width": 224}, "do_center_crop": False},
    "do_pad, pad_size 256": {"do_pad": True, "pad_size": {"height": 256, "width": 256}},
    "crop_pct 0.9": {"crop_pct": 0.9, "size": {"shortest_edge": 224}},
    "do_flip_channel_order": {"do_flip_channel_order": True},
    "do_convert_rgb false": {"do_convert_rgb": False},
    "do_reduce_labels": {"do_reduce_labels": True},
    "resample nearest": {"resample": 0},
    "resample lanczos": {"resample": 1},
    "resample bilinear": {"resample": 2},
    "resample bicubic": {"resample": 3},
    "resample box": {"resample": 4},
    "resample hamming": {"resample": 5},
}
LEGACY: dict[str, dict[str, Any]] = {
    "ViTFeatureExtractor": {"size": 224, "resample": 2, "do_normalize": True, "do_resize": True},
    "CLIPFeatureExtractor": {"size": 224, "crop_size": 224, "do_center_crop": True, "resample": 3},
    "DeiTFeatureExtractor": {"size": 256, "crop_size": 224, "do_center_crop": True, "resample": 3},
    "ConvNextFeatureExtractor": {"size": 224, "crop_pct": 0.875, "resample": 3},
}
SWEPT_CLASSES = ("ViTImageProcessor", "CLIPImageProcessor", "SiglipImageProcessor", "ConvNextImageProcessor")
TIMM: dict[str, dict[str, Any]] = {
    "defaults": {},
    "center 1.0": {"crop_pct": 1.0},
    "center 0.9": {"crop_pct": 0.9},
    "center 0.95, bilinear": {"crop_pct": 0.95, "interpolation": "bilinear"},
    "squash 1.0": {"crop_pct": 1.0, "crop_mode": "squash"},
    "squash 0.95": {"crop_pct": 0.95, "crop_mode": "squash"},
    "border": {"crop_mode": "border"},
    "oblong center": {"input_size": [3, 224, 112], "crop_pct": 0.9},
    "oblong squash": {"input_size": [3, 224, 112], "crop_pct": 0.9, "crop_mode": "squash"},
    "lanczos": {"interpolation": "lanczos"},
    "mean 0.5": {"mean": [0.5] * 3, "std": [0.5] * 3},
    "384 in patches of 14": {"input_size": [3, 384, 384], "crop_pct": 1.0},
    "384 in patches of 14, 0.9": {"input_size": [3, 384, 384], "crop_pct": 0.9},
}
OPEN_CLIP: dict[str, dict[str, Any]] = {
    "defaults": {},
    "squash": {"resize_mode": "squash"},
    "longest": {"resize_mode": "longest"},
    "bilinear": {"interpolation": "bilinear"},
    "random": {"interpolation": "random"},
}


def cases() -> list[Case]:
    """Return every case of the sweep."""
    found = [Case(library="transformers", name=name, processor=_class_settings(name)) for name in CLASSES]
    for kind in SWEPT_CLASSES:
        found += [
            Case(library="transformers", name=f"{kind}: {name}", processor=_class_settings(kind) | changes)
            for name, changes in SETTINGS.items()
            if changes
        ]
    found += [
        Case(library="transformers", name=f"as of old: {name}", processor={"feature_extractor_type": name} | settings)
        for name, settings in LEGACY.items()
    ]
    found += [
        Case(library="transformers", name=f"as of old: {name}", processor={"image_processor_type": name})
        for name in ("ViTImageProcessorFast", "CLIPImageProcessorFast", "DINOv3ViTImageProcessorFast")
    ]
    found += [
        Case(
            library="transformers", name=f"no class, model_type {kind}", processor={"do_resize": True}, model_type=kind
        )
        for kind in ("vit", "clip", "dinov2", "siglip", "beit", "deit", "swin")
    ]
    found += [
        Case(
            library="transformers",
            name=f"SiglipImageProcessor: {side} in patches of 14",
            processor=_class_settings("SiglipImageProcessor") | {"size": {"height": side, "width": side}},
            image_size=side // 14 * 14,
            patch_size=14,
        )
        for side in (384, 230)
    ]
    found.append(
        Case(
            library="transformers",
            name="CLIPImageProcessor: 384 in patches of 14",
            processor=_class_settings("CLIPImageProcessor") | {"size": {"shortest_edge": 400}, "crop_size": 384},
            image_size=378,
            patch_size=14,
        )
    )
    for name, changes in TIMM.items():
        patch_size = 14 if "14" in name else 16
        _, height, width = changes.get("input_size", (3, 224, 224))
        size = (height // patch_size * patch_size, width // patch_size * patch_size)
        found.append(
            Case(
                library="timm",
                name=name,
                processor={"num_classes": 3} | changes,
                image_size=size,
                patch_size=patch_size,
            )
        )
    return found + [Case(library="open_clip", name=name, processor=changes) for name, changes in OPEN_CLIP.items()]


def _class_settings(kind: str) -> dict[str, Any]:
    return {"image_processor_type": kind}


@cache
def images() -> tuple[tuple[str, Image.Image], ...]:
    """Return noise and a photograph of every size and mode, with their names."""
    photograph, generator = Image.fromarray(load_sample_images().images[0]), np.random.default_rng(0)
    found = []
    for width, height in SIZES:
        noise = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for kind, image in (("noise", noise), ("photograph", photograph.resize((width, height)))):
            found += [(f"{kind} {width} × {height} {mode}", image.convert(mode)) for mode in MODES]
    return tuple(found)


def peer_transform(case: Case, folder: Path) -> Transform:
    """Return the peer's own processor; whatever it raises says that it cannot be so."""
    if case.library == "timm":
        found: Any = timm.data.resolve_data_config(pretrained_cfg=case.processor)
        timm_transform: Any = timm.data.create_transform(**found)
        return lambda image: timm_transform(image.convert("RGB"))
    if case.library == "open_clip":
        settings = PreprocessCfg(**case.processor)
        open_clip_transform: Any = image_transform(
            settings.size,
            is_train=False,
            mean=settings.mean,
            std=settings.std,
            resize_mode=settings.resize_mode,
            interpolation=settings.interpolation,
        )
        return lambda image: open_clip_transform(image.convert("RGB"))
    (folder / "preprocessor_config.json").write_text(json.dumps(case.processor))
    (folder / "config.json").write_text(json.dumps({"model_type": case.model_type}))
    processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    return lambda image: processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]


def our_preprocessing(case: Case) -> Preprocessing:
    """Return what our reading of the same settings says.

    Raises:
        BundleError: for what is refused.
    """
    config = ViTConfig(
        image_size=case.image_size,
        patch_size=case.patch_size,
        num_classes=3,
        dim=32,
        depth=1,
        heads=1,
        mlp_dim=32,
        design=PLAIN_VIT,
    )
    settings: dict[str, Any] = {"model_type": case.model_type}
    if case.library == "timm":
        settings = {"architecture": "vit", "pretrained_cfg": case.processor}
    if case.library == "open_clip":
        settings = {"model_cfg": {}, "preprocess_cfg": case.processor}
    found = read_preprocessing(config, settings, case.processor if case.library == "transformers" else {})
    assert found is not None
    return found


def prepare_image(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Return the image as our model takes it, (C, height, width)."""
    pixels = from_pillow(image)
    size = preprocessing.size_for(pixels.shape[1], pixels.shape[2])
    return normalize(preprocess(pixels, size, preprocessing)[None], preprocessing)[0]


def compare(case: Case, selected: tuple[tuple[str, Image.Image], ...] | None = None) -> Row:
    """Return how far apart the two are over all images."""
    row = Row(case)
    try:
        preprocessing = our_preprocessing(case)
    except BundleError as error:
        row.refused = str(error)
        return row
    std = torch.tensor(preprocessing.std).reshape(-1, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        try:
            transform = peer_transform(case, Path(folder))
            for name, image in images() if selected is None else selected:
                expected, actual = transform(image), prepare_image(image, preprocessing)
                # Their convolution drops incomplete patches.
                difference = (actual - expected[:, : actual.shape[1], : actual.shape[2]]).abs()
                row.differences[name] = difference.max().item()
                if difference.max().item() > row.normalized:
                    row.worst = name
                row.normalized = max(row.normalized, difference.max().item())
                row.levels = max(row.levels, (difference * std * 255).max().item())
        except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
            row.peer_error = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare image processors of other libraries with those of megavit.")
    parser.add_argument("--json", type=Path, default=None, help="also write every figure here")
    parser.add_argument("--only", default="", help="only cases whose names contain this word")
    arguments = parser.parse_args()
    rows = list(_rows(arguments.only))
    table = Table("library", "settings", "normalized", "levels of 255", "worst image", "refused")
    for row in rows:
        figures = ("", "") if row.refused or row.peer_error else (f"{row.normalized:.1e}", f"{row.levels:.3f}")
        reason = row.refused or (f"by the peer: {row.peer_error}" if row.peer_error else "")
        table.add_row(row.case.library, row.case.name, *figures, row.worst, reason)
    Console(width=200).print(table)
    if arguments.json:
        results = [
            {
                "library": row.case.library,
                "name": row.case.name,
                "processor": row.case.processor,
                "normalized": row.normalized,
                "levels": row.levels,
                "refused": row.refused,
                "refused_by_the_peer": row.peer_error,
                "differences": row.differences,
            }
            for row in rows
        ]
        write_file(arguments.json, json.dumps(results, indent=1, ensure_ascii=False))


def _rows(word: str) -> Iterator[Row]:
    for case in cases():
        if word in f"{case.library} {case.name}":
            yield compare(case)


if __name__ == "__main__":
    main()
