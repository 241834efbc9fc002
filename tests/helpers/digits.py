"""Write scikit-learn's handwritten digits, real images of 8 × 8 pixels, into class folders."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits


def make_digits_folder(folder: Path, digits: Iterable[int], chosen: slice, prefix: str = "") -> Path:
    """Write the chosen ones of each digit's images as `folder`/DIGIT/000.png, 001.png, ...; return `folder`."""
    images, labels = load_digits(return_X_y=True)
    for digit in digits:
        (folder / f"{prefix}{digit}").mkdir(parents=True)
        for i, pixels in enumerate(images[labels == digit][chosen]):
            image = Image.fromarray((pixels.reshape(8, 8) * 255 / 16).round().astype("uint8"))
            image.save(folder / f"{prefix}{digit}" / f"{i:03}.png")
    return folder
