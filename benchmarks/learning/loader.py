"""How near the feed of decoded images comes to the limit of this machine, beside torchvision's ways.

    python benchmarks/learning/loader.py --images 2000 --json loader.json

The limit is one process a worker that decodes and resizes its share of the same files and sends nothing. Each
contender has the same files, sizes and number of processes, and goes through them once a round, in turns with the
others; the figure is the median over the rounds. "ours to the device" is to a GPU, and left out without one.
"""

import argparse
import io
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from megavit.config.preprocessing import Preprocessing
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.decode.tensor import decode
from megavit.data.image_dataset import preprocess
from megavit.data.image_dataset import to_device as send
from megavit.runtime.processors import available_cpus
from megavit.training import data as data_module
from megavit.training.data import TrainLoader
from megavit.training.progress import NullReporter

NUM_DISTINCT = 64
QUALITY = 90


def make_folder(root: Path, images: int, height: int, width: int) -> None:
    """JPEGs in two class folders: gradients, shapes of many sizes and grain, which take as long as photographs."""
    random = np.random.default_rng(0)
    encoded = []
    for _ in range(NUM_DISTINCT):
        pixels = random.normal(0, 6, (height, width, 3))
        for cells in (2, 6, 20, 60, 120):
            coarse = random.normal(0, 60 / cells**0.3, (cells, cells, 3)).astype(np.float32)
            for channel in range(3):
                layer = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
                pixels[..., channel] += np.asarray(layer)
        file = io.BytesIO()
        Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        encoded.append(file.getvalue())
    for i in range(images):
        path = root / ("even" if i % 2 == 0 else "odd") / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded[i % NUM_DISTINCT])


def decode_share(task: tuple[list[Path], int]) -> None:
    paths, side = task
    for path in paths:
        preprocess(decode(path, (side, side)), (side, side), Preprocessing(height=side, width=side, channels=3))


class Limit:
    """Nothing but decoding and resizing, one process a worker, started before the clock."""

    def __init__(self, paths: list[Path], side: int, workers: int) -> None:
        self.shares = [(paths[start::workers], side) for start in range(workers)]
        self.pool = multiprocessing.get_context("fork").Pool(workers, torch.set_num_threads, (1,))

    def __call__(self) -> None:
        self.pool.map(decode_share, self.shares, chunksize=1)


def make_train_loader(root: Path, paths: list[Path], height: int, width: int, side: int, workers: int) -> TrainLoader:
    names = [path.relative_to(root).as_posix() for path in paths]
    samples = tuple(Sample(name, i % 2, "train", height, width, 3, "") for i, name in enumerate(names))
    images = LabeledImages(str(root), root, ("even", "odd"), samples, (), "all of it")
    # Pretend that there is no memory to cache the images.
    data_module.free_memory = lambda: 0
    size = Preprocessing(height=side, width=side, channels=3)
    return TrainLoader(images, samples, size, workers=workers, reporter=NullReporter())


def exhaust(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def to_device(train_loader: TrainLoader, batch_size: int) -> None:
    for batch in train_loader.sequential_batches(batch_size):
        send(batch, torch.device("cuda"))
    torch.cuda.synchronize()


def torchvision_loader(root: Path, side: int, workers: int, batch_size: int, *, tensors: bool) -> DataLoader:
    """ImageFolder, resized whole as ours: by v2 on tensors, or on Pillow's images as most recipes do."""
    resize = v2.Resize((side, side), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    steps = [v2.ToImage(), resize] if tensors else [resize, v2.ToImage()]
    data = ImageFolder(root, transform=v2.Compose(steps))
    return DataLoader(data, batch_size=batch_size, num_workers=workers, pin_memory=torch.cuda.is_available())


def contenders(root: Path, arguments: argparse.Namespace) -> dict[str, Callable[[], None]]:
    height, width = arguments.size
    side, workers, batch = arguments.side, arguments.workers, arguments.batch_size
    paths = sorted(root.rglob("*.jpg"))
    train_loader = make_train_loader(root, paths, height, width, side, workers)
    tensors, pillow = (torchvision_loader(root, side, workers, batch, tensors=tensors) for tensors in (True, False))
    found: dict[str, Callable[[], None]] = {
        "limit: decode and resize": Limit(paths, side, workers),
        "ours": lambda: exhaust(train_loader.sequential_batches(batch)),
        "torchvision, v2 on tensors": lambda: exhaust(tensors),
        "torchvision, v2 on Pillow": lambda: exhaust(pillow),
    }
    if torch.cuda.is_available():
        found["ours to the device"] = lambda: to_device(train_loader, batch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="height and width of the files")
    parser.add_argument("--side", type=int, default=224, help="side of the model's input in pixels")
    parser.add_argument("--workers", type=int, default=available_cpus())
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), arguments.images, *arguments.size)
        runners = contenders(Path(folder), arguments)
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(arguments.rounds):
            for name, run in runners.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    rates = {name: arguments.images / statistics.median(taken) for name, taken in seconds.items()}
    limit = rates["limit: decode and resize"]
    for name, rate in rates.items():
        sys.stdout.write(f"{name:28} {rate:8.0f} images/s  {rate / limit:6.1%} of the limit\n")
    if arguments.json is not None:
        settings = {name: value for name, value in vars(arguments).items() if name != "json"}
        facts = {"settings": settings, "torch": torch.__version__, "seconds": seconds, "images_per_second": rates}
        arguments.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
