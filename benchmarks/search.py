"""How often similar images are of the same class, and how long a search in many vectors takes.

    OMP_NUM_THREADS=1 python -m benchmarks.search --bundle RUN
    OMP_NUM_THREADS=1 python -m benchmarks.search --vectors 1000 10000 100000 1000000 --dim 384

With a bundle, each of its test images is searched for among its training images: the mean share of the ten most
similar ones that have the same class, with a 95% interval by bootstrap over the queries, how often the first has it,
and the share by chance. With numbers of vectors, the median, smallest and largest time of a search in so many random
ones, its processor time, and the time to read their index.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import megavit
from megavit.errors import MegavitError
from megavit.predict.embedding_index import EmbeddingIndex, IndexedImage, read_index, write_index

TOP, ROUNDS = 10, 21
# Number of bootstrap samples of the queries for the 95% interval.
RESAMPLES = 2_000


def measure_precision(bundle: Path) -> dict[str, object]:
    """Return the precision at 10 of the bundle's test images among its training images."""
    index = megavit.index_images(bundle).index
    splits = {
        split: [position for position, image in enumerate(index.images) if image.split == split]
        for split in ("train", "test")
    }
    training = EmbeddingIndex(tuple(index.images[i] for i in splits["train"]), index.vectors[splits["train"]], "")
    found, _ = training.nearest(index.vectors[splits["test"]], TOP)
    queries = [index.images[i].label for i in splits["test"]]
    right = [
        sum(training.images[i].label == label for i in row) / TOP
        for label, row in zip(queries, found.tolist(), strict=True)
    ]
    counts = Counter(image.label for image in training.images)
    chance = statistics.mean(counts[label] / len(training.images) for label in queries)
    first = [training.images[row[0]].label == label for label, row in zip(queries, found.tolist(), strict=True)]
    resampled = random.Random(0)
    means = sorted(statistics.mean(resampled.choices(right, k=len(right))) for _ in range(RESAMPLES))
    return {
        "queries": len(queries),
        "images": len(training.images),
        "precision_at_10": round(statistics.mean(right), 4),
        "interval": [round(means[int(share * RESAMPLES)], 4) for share in (0.025, 0.975)],
        "first": round(statistics.mean(first), 4),
        "by_chance": round(chance, 4),
    }


def measure_time(count: int, dim: int) -> dict[str, object]:
    """Return the median milliseconds of a search in random vectors, and the seconds that reading them takes."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(count, dim, generator=generator)
    images = tuple(IndexedImage(name=f"photos/class/{i:08}.jpg", stamp=f"{i:016x}") for i in range(count))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "index.safetensors"
        write_index(path, EmbeddingIndex(images, vectors, "random"))
        began = time.perf_counter()
        index = read_index(path)
        reading = time.perf_counter() - began
        assert index is not None
        seconds, processor_seconds = [], []
        for _ in range(ROUNDS):
            query = torch.randn(1, dim, generator=generator)
            began, processor_began = time.perf_counter(), time.process_time()
            index.nearest(query, TOP)
            seconds.append(time.perf_counter() - began)
            processor_seconds.append(time.process_time() - processor_began)
    return {
        "vectors": count,
        "dim": dim,
        "milliseconds": [round(1e3 * value, 2) for value in (statistics.median(seconds), min(seconds), max(seconds))],
        "processor_milliseconds": round(1e3 * statistics.median(processor_seconds), 2),
        "reading_seconds": round(reading, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--vectors", type=int, nargs="+", default=[])
    parser.add_argument("--dim", type=int, default=384)
    arguments = parser.parse_args()
    if arguments.bundle is not None:
        sys.stdout.write(json.dumps(measure_precision(arguments.bundle)) + "\n")
    for count in arguments.vectors:
        sys.stdout.write(json.dumps(measure_time(count, arguments.dim)) + "\n")


if __name__ == "__main__":
    try:
        main()
    except MegavitError as error:
        sys.exit(str(error))
