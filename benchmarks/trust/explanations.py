"""Measure how faithful the maps of `megavit explain` are, on images that the model was not trained on.

    python -m benchmarks.trust.explanations BUNDLE DATA [--images 200] [--json FILE]

"deletion" is the mean probability of the model's prediction while patches are removed from the most relevant on
(lower is better), "insertion" while they are shown (higher is better); see `benchmarks.trust.faithfulness`. A removed
patch has the images' mean color. "random" is the same in random order, the mean of several; a gain is how much better
a map is than that. "contrast" is a baseline that knows no model: it orders patches by how much their pixels differ
from the mean color; a map that does no better says no more than where the image is not empty. "untrained" is the rank
correlation with the map of a model with fresh weights: near 0, the map shows what the model has learned.

Gains and correlations have 95% intervals by resampling the images.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.trust.faithfulness import CurveAreas, curve_areas, rank_correlation, rank_patches, untrained
from megavit.bench.run import describe_machine
from megavit.config.recipe import DataRecipe
from megavit.config.target import Target
from megavit.data.augment import normalize
from megavit.data.dataset import read_samples
from megavit.data.image_dataset import ImageDataset
from megavit.data.load import load_data
from megavit.evaluation.inference import check_channels, select_split
from megavit.evaluation.metrics.bootstrap import Interval, bootstrap_images
from megavit.explain.maps import compute_relevance
from megavit.explain.methods import DEFAULT_METHOD, Method
from megavit.model.outputs.logits import logits_to_outputs
from megavit.model.vit import MegaVit
from megavit.predict.predictor import Predictor, load
from megavit.weights.bundle.bundle import SAMPLES

SEEDS = 5


def compare(model: MegaVit, images: Tensor, target: Target) -> dict[str, dict[str, Any]]:
    """Return a row for each method, and for the contrast, on normalized images (B, C, height, width)."""
    with torch.no_grad():
        predicted = torch.cat([logits_to_outputs(model(part), target) for part in images.split(64)])
    outputs = torch.zeros(len(images), dtype=torch.int64) if target.kind == "regression" else predicted.argmax(dim=1)
    fill = images.mean(dim=(0, 2, 3))

    def measure(order: Tensor) -> CurveAreas:
        return curve_areas(model, images, order, outputs, fill=fill, target=target)

    count = model.config.num_patches
    random_areas = []
    for seed in range(SEEDS):
        random = torch.Generator().manual_seed(seed)
        random_areas.append(measure(torch.stack([torch.randperm(count, generator=random) for _ in images])))
    # For a random order both areas have the same mean.
    random_area = torch.stack([area for one in random_areas for area in one]).mean(dim=0)
    fresh = untrained(model, seed=0)
    methods: tuple[Method, ...] = get_args(Method)
    rows: dict[str, dict[str, Any]] = {}
    for method in methods:
        maps = compute_relevance(model, images, outputs, method).cpu()
        similarity = rank_correlation(maps, compute_relevance(fresh, images, outputs, method).cpu())
        rows[method] = row(measure(rank_patches(maps)), random_area, similarity)
    rows["contrast"] = row(measure(rank_patches(contrast(model, images, fill))), random_area, None)
    return rows


def contrast(model: MegaVit, images: Tensor, fill: Tensor) -> Tensor:
    """Return the mean squared difference of each patch's pixels from `fill`, (B, rows, columns)."""
    squared_difference = (images - fill.view(1, -1, 1, 1)).square().mean(dim=1, keepdim=True)
    return torch.nn.functional.avg_pool2d(squared_difference, model.config.patch_hw)[:, 0].cpu()


def row(areas: CurveAreas, random_area: Tensor, similarity: Tensor | None) -> dict[str, Any]:
    return {
        "deletion": areas.deletion.mean().item(),
        "insertion": areas.insertion.mean().item(),
        "random": random_area.mean().item(),
        "deletion_gain": asdict(interval(random_area - areas.deletion)),
        "insertion_gain": asdict(interval(areas.insertion - random_area)),
        "untrained": None if similarity is None else asdict(interval(similarity)),
    }


def interval(values: Tensor) -> Interval:
    """Return the mean over images with its 95% interval."""
    per_image = values.double().numpy()

    def mean(drawn: np.ndarray) -> np.ndarray:
        return (drawn @ per_image / drawn.sum(axis=1))[:, None]

    (found,) = bootstrap_images(mean, len(per_image))
    assert found is not None  # a mean of numbers is one
    return found


def load_images(predictor: Predictor, source: str, count: int) -> Tensor:
    """Return up to `count` images spread over the data, uint8, of one size, that the bundle was not trained on."""
    images = load_data(source, DataRecipe(val=0, test=0))
    selection = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
    samples = selection.samples[:: max(1, len(selection.samples) // count)][:count]
    preprocessing = replace(predictor.info.preprocessing, keep_aspect=False)
    check_channels(images, samples, preprocessing.channels)
    dataset = ImageDataset(images, samples, preprocessing)
    return torch.stack([dataset[index] for index in range(len(dataset))])


def show(found: dict[str, dict[str, Any]]) -> None:
    table = Table("order by", "deletion", "insertion", "random", "deletion gain", "insertion gain", "untrained")
    for name, cells in found.items():
        ends = [cells[key] for key in ("deletion_gain", "insertion_gain", "untrained")]
        texts = [f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" if one else "" for one in ends]
        table.add_row(name, *(f"{cells[key]:.3f}" for key in ("deletion", "insertion", "random")), *texts)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    predictor = load(arguments.bundle, device=arguments.device)
    model = predictor.model
    pixels = load_images(predictor, arguments.data, arguments.images)
    images = normalize(pixels.to(next(model.parameters()).device), predictor.info.preprocessing)
    found = compare(model, images, predictor.info.target)
    show(found)
    if arguments.json is not None:
        facts = describe_machine(images.device) | {
            "images": len(images),
            "default": DEFAULT_METHOD,
            "patches": model.config.num_patches,
        }
        arguments.json.write_text(json.dumps(facts | {"methods": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
