"""Recall and cost of the index behind near duplicates, compared with comparing every image with every other.

    python -m benchmarks.data.near_duplicates --images 16000

Crops two photographs that come with scikit-learn into many images, 500 of them near duplicates of others (cropped,
brighter or darker, saved as JPEG, mirrored, larger), and finds their neighbors both ways, alternating.
"""

import argparse
import random
import statistics
import time
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images

from megavit.data_check import neighbors
from megavit.data_check.near_duplicates import compute_descriptors, find_candidates
from megavit.data_check.neighbors import NeighborIndex
from megavit.data_check.thumbnails import MIN_CONTRAST, SIDE

PLANTED = 500


def make_images(count: int, seed: int) -> torch.Tensor:
    """Return uint8 (count, SIDE, SIDE): crops of the photographs, the last `PLANTED` of them near duplicates."""
    rng = random.Random(seed)
    photographs = [Image.fromarray(one).convert("L") for one in load_sample_images().images]
    crops: list[Image.Image] = []
    for _ in range(count - PLANTED):
        photograph, width, height = rng.choice(photographs), rng.randrange(24, 200), rng.randrange(24, 200)
        left, top = rng.randrange(photograph.width - width), rng.randrange(photograph.height - height)
        crop = photograph.crop((left, top, left + width, top + height))
        crops.append(crop.rotate(rng.randrange(360)) if rng.random() < 0.5 else crop)
    for number in range(PLANTED):
        crops.append(make_duplicate(crops[rng.randrange(count - PLANTED)], number % 5, rng))
    small = [np.array(crop.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for crop in crops]
    return torch.from_numpy(np.stack(small))


def make_duplicate(image: Image.Image, kind: int, rng: random.Random) -> Image.Image:
    match kind:
        case 0:
            inset = rng.uniform(0.02, 0.05)
            width, height = image.size
            return image.crop(
                (int(width * inset), int(height * inset), int(width * (1 - inset)), int(height * (1 - inset)))
            )
        case 1:
            return ImageEnhance.Brightness(image).enhance(rng.choice([0.8, 1.2]))
        case 2:
            saved = BytesIO()
            image.save(saved, format="JPEG", quality=50)
            return Image.open(saved)
        case 3:
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        case _:
            return image.resize((image.width * 2, image.height * 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    gray = make_images(options.images, options.seed)
    contrast = gray.flatten(1).amax(dim=1).int() - gray.flatten(1).amin(dim=1).int()
    descriptors = compute_descriptors(gray[contrast >= MIN_CONTRAST])
    found: dict[str, set[tuple[int, ...]]] = {}
    seconds: dict[str, list[float]] = {"all pairs": [], "index": []}
    compared: dict[str, int] = {}
    default = neighbors.MAX_EXACT_ROWS
    for _ in range(options.rounds):
        for method, exact in (("all pairs", len(descriptors)), ("index", default)):
            neighbors.MAX_EXACT_ROWS = exact
            started = time.process_time()
            index = NeighborIndex(descriptors)
            pairs = find_candidates(descriptors, index)
            seconds[method].append(time.process_time() - started)
            compared[method] = index.comparisons
            found[method] = {
                (*pair, int(mirrored))
                for pair, mirrored in zip(pairs.indices.tolist(), pairs.mirrored.tolist(), strict=True)
            }
    table = Table("", "comparisons", "CPU seconds", "pairs", "recall")
    for method, times in seconds.items():
        recall = len(found[method] & found["all pairs"]) / len(found["all pairs"])
        table.add_row(
            method,
            f"{compared[method]:,}",
            f"{statistics.median(times):.2f}",
            f"{len(found[method]):,}",
            f"{recall:.2%}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
