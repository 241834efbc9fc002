"""A folder of JPEG files of mixed sizes: ours, the usual loop around timm, and how fast files can be read at all.

    python -m benchmarks.speed.predict_folder [--images 5000] [--preset S] [--json FILE]

The files are crops of scikit-learn's two photographs, 160 to 1,600 pixels wide. "timm" is its own transform (Pillow)
in a DataLoader of two processes, and its model in PyTorch; both models have the same random weights, as far as their
speed can tell. "reading" decodes and resizes as ours does, and computes nothing. They take turns, a share of the files
each; figures are images a second, the median of the turns.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset

from megavit.bench.peers import get_installed_peers
from megavit.bench.run import describe_machine
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.data.dataset import samples_csv
from megavit.model.vit import MegaVit
from megavit.predict.predictor import Predictor, load
from megavit.weights.bundle.bundle import save_bundle
from megavit.weights.bundle.info import BundleInfo
from megavit.weights.pretrained.to_bundle import reference_images

WIDTHS = (160, 1600)
BATCH, WORKERS = 32, 2
TURNS = 5
Runner = Callable[[list[Path]], int]


def write_files(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Crops of the photographs, scaled to widths drawn evenly on a logarithmic scale."""
    random = np.random.default_rng(seed)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    files = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        left, top, wide, high = random.integers((0, 0, 200, 200), (200, 100, 440, 320)).tolist()
        crop = photograph.crop((left, top, left + wide, top + high))
        width = round(float(np.exp(random.uniform(*np.log(WIDTHS)))))
        files.append(folder / f"{index:05}.jpg")
        crop.resize((width, max(32, width * crop.height // crop.width))).save(files[-1], quality=85)
    return files


class Files(Dataset[torch.Tensor]):
    """Files as timm's own transform makes them."""

    def __init__(self, files: list[Path], size: int) -> None:
        self.files = files
        self.transform: Any = timm.data.create_transform(input_size=(3, size, size), interpolation="bicubic")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB"))


def megavit_stream(predictor: Predictor) -> Runner:
    def run(files: list[Path]) -> int:
        named: Iterable[tuple[str, Path]] = ((file.name, file) for file in files)
        return sum(1 for _ in predictor.stream(named, batch_size=BATCH, workers=WORKERS))

    return run


def timm_loop(model: torch.nn.Module, size: int) -> Runner:
    @torch.inference_mode()
    def run(files: list[Path]) -> int:
        batches: Iterator[torch.Tensor] = iter(DataLoader(Files(files, size), BATCH, num_workers=WORKERS))
        return sum(len(model(batch).softmax(dim=1).topk(5).indices) for batch in batches)

    return run


def decode_only(predictor: Predictor) -> Runner:
    def run(files: list[Path]) -> int:
        with ThreadPoolExecutor(WORKERS) as pool:
            return sum(1 for _ in pool.map(predictor.prepare, files))

    return run


def make_predictor(name: str, folder: Path) -> Predictor:
    config = preset(name)
    (height, width), labels = config.image_hw, [str(i) for i in range(config.num_classes)]
    size = Preprocessing(height=height, width=width, channels=3)
    info = BundleInfo(
        model=config,
        labels=labels,
        preprocessing=size,
        created="2026-11-23T00:00:00+00:00",
        metrics={},
        data={"source": "nothing", "counts": {}, "skipped": {}},
        recipe={},
    )
    save_bundle(folder, MegaVit.from_config(config), info, reference=reference_images(3), samples=samples_csv((), ()))
    return load(folder, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--preset", default="S")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = write_files(folder, arguments.images)
        predictor = make_predictor(arguments.preset, folder / "bundle")
        config = predictor.model.config
        peer = get_installed_peers(config)["timm"](config).eval()
        runners = {
            "megavit": megavit_stream(predictor),
            "timm": timm_loop(peer, config.image_hw[0]),
            "reading": decode_only(predictor),
        }
        rates: dict[str, list[float]] = {label: [] for label in runners}
        for turn in range(-1, TURNS):  # round -1 warms up
            chunk = files[max(turn, 0) :: TURNS]
            for label, run in runners.items():
                started = time.perf_counter()
                count = run(chunk)
                if turn >= 0:
                    rates[label].append(count / (time.perf_counter() - started))
    figures = describe_machine(torch.device("cpu")) | {
        "images": arguments.images,
        "preset": arguments.preset,
        "engine": predictor.engine.note,
        "images_per_second": {label: round(median(found), 1) for label, found in rates.items()},
        "turns": {label: [round(rate, 1) for rate in found] for label, found in rates.items()},
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
