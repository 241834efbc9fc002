"""Whether the maps of `megavit explain` tell what a bundle's model does, on images that it has not learned from.

    python -m benchmarks.explanations BUNDLE DATA [--images 200] [--json FILE]

"deletion" is the mean probability of the model's answer while patches are taken away from the most relevant on (lower
is better), "insertion" while they are shown (higher is better); see `megavit.explain.checks`. A patch that is gone has
the images' mean color. "random" is the same in random order, the mean of several; a gain is how much better a map is
than that. "contrast" is no explanation: it orders patches by how much their pixels differ from the mean color, and
knows no model; a map that does no better tells no more than where the image is not empty. "learned nothing" is the rank
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

from megavit.bench.run import describe_machine
from megavit.config.recipe import DataRecipe
from megavit.config.target import Target
from megavit.data.augment import normalize
from megavit.data.dataset import read_samples
from megavit.data.image_dataset import ImageDataset
from megavit.data.load import load_data
from megavit.evaluate.inference import check_channels, select_split
from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_images
from megavit.explain.checks import Areas, areas, order_of, randomized, rank_correlation
from megavit.explain.maps import relevance_map
from megavit.explain.methods import DEFAULT_METHOD, Method
from megavit.model.vit import MegaVit
from megavit.predict.postprocess.postprocess import logits_to_outputs
from megavit.predict.predictor import Predictor, load
from megavit.weights.bundle.bundle import SAMPLES

SEEDS = 5


def compare(model: MegaVit, images: Tensor, target: Target) -> dict[str, dict[str, Any]]:
    """A row for each method, and for the contrast, on normalized images (B, C, height, width)."""
    with torch.no_grad():
        answers = torch.cat([logits_to_outputs(model(part), target) for part in images.split(64)])
    places = torch.zeros(len(images), dtype=torch.int64) if target.kind == "regression" else answers.argmax(dim=1)
    fill = images.mean(dim=(0, 2, 3))

    def measured(order: Tensor) -> Areas:
        return areas(model, images, order, places, fill, target)

    count = model.config.num_patches
    chance = []
    for seed in range(SEEDS):
        random = torch.Generator().manual_seed(seed)
        chance.append(measured(torch.stack([torch.randperm(count, generator=random) for _ in images])))
    # Of a random order both areas have the same mean.
    random_area = torch.stack([area for one in chance for area in one]).mean(dim=0)
    fresh = randomized(model, seed=0)
    methods: tuple[Method, ...] = get_args(Method)
    found: dict[str, dict[str, Any]] = {}
    for method in methods:
        maps = relevance_map(model, images, places, method).cpu()
        same = rank_correlation(maps, relevance_map(fresh, images, places, method).cpu())
        found[method] = row(measured(order_of(maps)), random_area, same)
    found["contrast"] = row(measured(order_of(contrast(model, images, fill))), random_area, None)
    return found


def contrast(model: MegaVit, images: Tensor, fill: Tensor) -> Tensor:
    """(B, rows, columns), how far a patch's pixels are from `fill`."""
    away = (images - fill.view(1, -1, 1, 1)).square().mean(dim=1, keepdim=True)
    return torch.nn.functional.avg_pool2d(away, model.config.patch_hw)[:, 0].cpu()


def row(found: Areas, random_area: Tensor, same: Tensor | None) -> dict[str, Any]:
    return {
        "deletion": found.deletion.mean().item(),
        "insertion": found.insertion.mean().item(),
        "random": random_area.mean().item(),
        "deletion_gain": asdict(interval(random_area - found.deletion)),
        "insertion_gain": asdict(interval(found.insertion - random_area)),
        "learned_nothing": None if same is None else asdict(interval(same)),
    }


def interval(values: Tensor) -> Interval:
    """The mean over images, with its 95% interval."""
    of_image = values.double().numpy()

    def mean(drawn: np.ndarray) -> np.ndarray:
        return (drawn @ of_image / drawn.sum(axis=1))[:, None]

    (found,) = bootstrap_images(mean, len(of_image))
    assert found is not None  # a mean of numbers is one
    return found


def pictures_of(predictor: Predictor, source: str, most: int) -> Tensor:
    """Up to `most` images spread over the data, uint8, of one size, that the bundle has not learned from."""
    images = load_data(source, DataRecipe(val=0, test=0))
    choice = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
    samples = choice.samples[:: max(1, len(choice.samples) // most)][:most]
    preprocessing = replace(predictor.info.preprocessing, keep_aspect=False)
    check_channels(images, samples, preprocessing.channels)
    pictures = ImageDataset(images, samples, preprocessing)
    return torch.stack([pictures[place] for place in range(len(pictures))])


def show(found: dict[str, dict[str, Any]]) -> None:
    table = Table("order by", "deletion", "insertion", "random", "deletion gain", "insertion gain", "learned nothing")
    for name, cells in found.items():
        ends = [cells[key] for key in ("deletion_gain", "insertion_gain", "learned_nothing")]
        told = [f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" if one else "" for one in ends]
        table.add_row(name, *(f"{cells[key]:.3f}" for key in ("deletion", "insertion", "random")), *told)
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
    pixels = pictures_of(predictor, arguments.data, arguments.images)
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
