"""Shards beside the same files in folders: how fast they are read, and how well their order mixes.

    python -m benchmarks.data.shards [--images 4000] [--turns 5] [--json FILE]

The files are JPEG crops of scikit-learn's two photographs. "read" only reads bytes, one after the other, in the order
of training; "decoded" is what a training loop is fed: batches of 224 pixels from a DataLoader. "cold" is after the
system was asked to forget the files, which it may decline. Ways take turns; figures are images a second, the median of
the turns, and of each way beside the files read the same way how many times as fast it is: the median of the turns'
ratios, which holds on a machine that has other work too. The load tells how much.

The order is measured without files, on 100 classes of 1,000 images in 100 shards: how many classes a batch of 256 has,
and which share of the pairs in a batch were together in a batch of the epoch before, as multiples of what drawing
from all images gives; for shards whose images were shuffled when they were written, as ours are, and for shards in the
order of classes. Smaller than 1 in classes, or larger than 1 in pairs, is worse than that.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.speed.predict_folder import write_files
from megavit.bench.run import describe_machine
from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages
from megavit.data.decode.image_file import read_file
from megavit.data.image_dataset import ImageDataset
from megavit.data.load import load_data, scan_source
from megavit.data.loader.loader import iter_batches
from megavit.data.loader.sampler import ResumableBatchSampler
from megavit.data.loader.shard_windows import ShardWindows, make_shard_windows
from megavit.data.shards.write import write_shards

BATCH, WORKERS = 64, 2
SHARDS = 40
CLASSES, PER_CLASS, MIXED_SHARDS, MIXED_BATCH = 100, 1_000, 100, 256
SIZES = (1, 4, 16, MIXED_SHARDS)
Reader = Callable[[], int]


def read_one_by_one(images: LabeledImages, order: Sequence[int]) -> int:
    for index in order:
        sample = images.samples[index]
        if sample.location is not None:
            sample.location.read()
        elif images.root is not None:
            read_file(images.root / sample.name)
    return len(order)


def decode_in_batches(images: LabeledImages, order: ResumableBatchSampler) -> int:
    dataset = ImageDataset(images, images.samples, Preprocessing(height=224, width=224, channels=3))
    return sum(len(batch) for batch in iter_batches(dataset, order, WORKERS))


def drop_page_cache(folder: Path) -> None:
    """Ask the system to drop what it holds of the files in memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def measure_reading(count: int, turns: int) -> tuple[dict[str, float], dict[str, float]]:
    """Images a second of each way, and how many times as fast as files it is."""
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in ("a", "b"):
            (root / "files" / name).mkdir(parents=True)
            write_files(root / "files" / name, count // 2, seed=ord(name))
        listing, found = scan_source(root / "files")
        total = sum(path.stat().st_size for path in (root / "files").rglob("*.jpg"))
        write_shards(listing, found, root / "shards", size=total // SHARDS, seed=0)
        recipe = DataRecipe(val=0, test=0)
        files, shards = load_data(root / "files", recipe), load_data(root / "shards", recipe, verify="none")
        windows = make_shard_windows(shards.samples)
        steps = count // BATCH
        plain = ResumableBatchSampler(count, BATCH, 0, start=0, steps=steps)
        windowed = ResumableBatchSampler(count, BATCH, 0, start=0, steps=steps, windows=windows, read_ahead=True)
        readers: dict[str, Reader] = {
            "files, read": lambda: read_one_by_one(files, plain.epoch(0)),
            "shards, read": lambda: read_one_by_one(shards, plain.epoch(0)),
            "shards by windows, read": lambda: read_one_by_one(shards, [one for batch in windowed for one in batch]),
            "files, decoded": lambda: decode_in_batches(files, plain),
            "shards by windows, decoded": lambda: decode_in_batches(shards, windowed),
        }
        seconds: dict[str, list[float]] = {}
        for _ in range(turns):
            for state in ("cold", "warm"):
                for name, read in readers.items():
                    if state == "cold":
                        drop_page_cache(root)
                    started = time.perf_counter()
                    images = read()
                    seconds.setdefault(f"{name}, {state}", []).append((time.perf_counter() - started) / images)
    ratios = {}
    for name, found in seconds.items():
        what = name.partition(", ")[2]
        baseline = seconds[f"files, {what}"]
        if found is not baseline:
            ratios[name] = median(one / other for one, other in zip(baseline, found, strict=True))
    return {name: 1 / median(found) for name, found in seconds.items()}, ratios


def measure_mixing() -> dict[str, dict[str, float]]:
    """For each layout and window: classes in a batch and pairs that meet again, as multiples of a full shuffle's."""
    count = CLASSES * PER_CLASS
    classes = torch.arange(count) // PER_CLASS
    layouts = {
        "shuffled": torch.randperm(count, generator=torch.Generator().manual_seed(0)) % MIXED_SHARDS,
        "by class": torch.arange(count) * MIXED_SHARDS // count,
    }
    found: dict[str, dict[str, float]] = {}
    plain = _measure_order(ResumableBatchSampler(count, MIXED_BATCH, 0, start=0, steps=0), classes)
    for layout, shard in layouts.items():
        for size in SIZES:
            windows = ShardWindows(shard, tuple(map(str, range(MIXED_SHARDS))), size)
            order = ResumableBatchSampler(count, MIXED_BATCH, 0, start=0, steps=0, windows=windows)
            num_classes, repeated_pairs = _measure_order(order, classes)
            found[f"{layout}, windows of {size}"] = {
                "classes": num_classes / plain[0],
                "pairs": repeated_pairs / plain[1],
            }
    return found


def _measure_order(order: ResumableBatchSampler, classes: Tensor, epochs: int = 4) -> tuple[float, float]:
    """Mean classes in a batch, and the share of the pairs in one that were in one the epoch before."""
    num_classes: list[float] = []
    batch_of: list[Tensor] = []
    for epoch in range(epochs):
        indices = torch.tensor(order.epoch(epoch))
        batches = indices[: len(indices) // MIXED_BATCH * MIXED_BATCH].view(-1, MIXED_BATCH)
        num_classes += [float(len(classes[batch].unique())) for batch in batches]
        number = torch.full_like(indices, -1)
        number[batches.flatten()] = torch.arange(len(batches)).repeat_interleave(MIXED_BATCH)
        batch_of.append(number)
    repeated_pairs, pairs = 0.0, 0.0
    for previous, current in pairwise(batch_of):
        both = (previous >= 0) & (current >= 0)
        together = torch.bincount(previous[both] * (int(current.max()) + 1) + current[both]).double()
        repeated_pairs += float((together * (together - 1) / 2).sum())
        pairs += float((current.max() + 1) * MIXED_BATCH * (MIXED_BATCH - 1) / 2)
    return sum(num_classes) / len(num_classes), repeated_pairs / pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    speeds, ratios = measure_reading(arguments.images, arguments.turns)
    result = {
        "about": describe_machine(torch.device("cpu")),
        "load_before_and_after": [load, os.getloadavg()[0]],
        "images": arguments.images,
        "images_per_second": speeds,
        "times_as_fast_as_files": ratios,
        "mixing": measure_mixing(),
    }
    for name, speed in speeds.items():
        baseline = f"  {ratios[name]:.2f} times files" if name in ratios else ""
        print(f"{name:40} {speed:10,.0f} images/s{baseline}")  # noqa: T201
    for name, mixed in result["mixing"].items():
        print(f"{name:40} classes × {mixed['classes']:.3f}  pairs × {mixed['pairs']:.2f}")  # noqa: T201
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
