"""Load demo data sets that come with installed libraries, so that a first try needs no data."""

import numpy as np
import torch

from megavit.config.recipe import DataRecipe
from megavit.data.byte_range import content_digest
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.decode.color_modes import rescale_to_uint8
from megavit.data.split.split import complete_splits
from megavit.errors import DataError

DEMO_PREFIX = "demo:"
DEMOS = ("digits",)


def read_demo(source: str, recipe: DataRecipe) -> LabeledImages:
    """Return the demo set `demo:digits`, 1,797 gray digits of 8 × 8 pixels (UCI); raise a DataError for other names."""
    name = source.removeprefix(DEMO_PREFIX)
    if name not in DEMOS:
        known = ", ".join(DEMO_PREFIX + demo for demo in DEMOS)
        raise DataError(f"there is no demo set {source!r}; the demo sets are {known}")
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = rescale_to_uint8(np.asarray(pixels).reshape(-1, 8, 8).astype(np.uint8), 16)
    classes = tuple(str(digit) for digit in range(10))
    labels = [int(label) for label in target]
    digests = [content_digest(image.tobytes()) for image in images]
    splits, description = complete_splits([None] * len(labels), [classes[label] for label in labels], digests, recipe)
    names = [f"{index:04d}" for index in range(len(labels))]
    samples = tuple(
        Sample(name, label, split, 8, 8, 1, digest)
        for name, label, split, digest in zip(names, labels, splits, digests, strict=True)
    )
    memory = {name: torch.from_numpy(image)[None] for name, image in zip(names, images, strict=True)}
    return LabeledImages(source, None, classes, samples, (), description, memory)
