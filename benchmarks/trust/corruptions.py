"""Compare the corruptions of `megavit evaluate --corruptions` with those of the package `imagecorruptions`.

    python -m benchmarks.trust.corruptions FOLDER [--images 30] [--markdown FILE]

It takes photographs at 224 x 224 pixels. Where nothing is random, a cell is the mean absolute difference of the two in
gray levels; otherwise the ratio of their mean squared distortions, ours to the package's, with two standard errors.

`imagecorruptions` 1.1.2 is of 2020 and is not a dependency of this project: install it with `--no-deps` into an
environment of its own that has scikit-image, opencv-python-headless and setuptools<80 too, with `src` on the
PYTHONPATH.
"""

import argparse
import random
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console

from megavit.evaluation.robustness.corruptions import CORRUPTIONS, REFERENCE_SIDE, SEVERITIES
from megavit.evaluation.robustness.robustness import corrupt_image
from megavit.runtime.device import device_name

OURS = ("rotation", "occlusion")
RANDOM = (
    *("Gaussian noise", "shot noise", "impulse noise", "glass blur", "motion blur"),
    *("snow", "fog", "elastic transform"),
)
DRAWS = {"motion blur": 10, "fog": 100}
"""Times that each image is corrupted, where one draw changes it by far more or less than another."""


def read_images(folder: Path, count: int) -> list[NDArray[np.uint8]]:
    """Return some images of a folder, uint8 (side, side, 3), cropped to a square."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = random.Random(0).sample(paths, min(count, len(paths)))
    size = (REFERENCE_SIDE, REFERENCE_SIDE)
    return [np.array(ImageOps.fit(Image.open(path).convert("RGB"), size)) for path in chosen]


def load_reference() -> Callable[..., NDArray[np.uint8]]:
    """Return the package's function, after putting back what NumPy and scikit-image have dropped since."""
    vars(np)["float_"] = np.float64
    reference: Any = import_module("imagecorruptions")
    gaussian: Any = import_module("skimage.filters").gaussian

    def old_gaussian(image: NDArray[Any], sigma: float, multichannel: bool = False, **options: Any) -> NDArray[Any]:
        return gaussian(image, sigma, channel_axis=-1 if multichannel else None, **options)

    reference.corruptions.gaussian = old_gaussian
    return reference.corrupt


def compare(name: str, severity: int, images: list[NDArray[np.uint8]]) -> str:
    """Return a cell of the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of functions that have been replaced since
    corrupt, function = load_reference(), CORRUPTIONS[name].__name__
    np.random.seed(severity)  # the package draws from it
    differences, distortions = [], []
    for index, image in enumerate(images * DRAWS.get(name, 1)):
        tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        ours = corrupt_image(tensor, name, severity, str(index)).permute(1, 2, 0).numpy()
        theirs = corrupt(image, severity=severity, corruption_name=function)
        differences.append(np.abs(ours.astype(float) - theirs).mean())
        distortions.append([np.square(one.astype(float) - image).mean() for one in (ours, theirs)])
    if name not in RANDOM:
        return f"{np.mean(differences):.3f}"
    first, second = np.array(distortions).T
    ratio = first.mean() / second.mean()
    error = (first - ratio * second).std(ddof=1) / len(first) ** 0.5 / second.mean()
    return f"× {ratio:.3f} ± {2 * error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    images = read_images(arguments.folder, arguments.images)
    lines = [
        f"{len(images)} photographs, {REFERENCE_SIDE} × {REFERENCE_SIDE}, on {device_name(torch.device('cpu'))}, "
        f"{date.today()}. Mean absolute difference from `imagecorruptions` 1.1.2 in gray levels; × is the ratio of the "
        "mean squared distortions, ± two standard errors.",
        "",
        "| corruption | " + " | ".join(str(severity) for severity in SEVERITIES) + " |",
        "|---" * (1 + len(SEVERITIES)) + "|",
    ]
    names = [name for name in CORRUPTIONS if name not in OURS]
    with ProcessPoolExecutor() as pool:
        rows = {name: [pool.submit(compare, name, severity, images) for severity in SEVERITIES] for name in names}
        for name, cells in rows.items():
            lines.append(" | ".join([f"| {name}", *(cell.result() for cell in cells)]) + " |")
            Console().print(lines[-1], soft_wrap=True)
    if arguments.markdown is not None:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
