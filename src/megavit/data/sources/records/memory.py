"""Read labeled images from Python objects: arrays, lists, data frames, and data sets of torch and Hugging Face."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megavit.config.recipe import DataRecipe
from megavit.data.scan import Listing
from megavit.data.sources.records.columns import Records, read_records
from megavit.data.sources.records.examples import Example, Examples, list_examples
from megavit.data.sources.records.frame import is_frame, open_frame
from megavit.data.sources.records.hugging_face import is_hugging_face, open_hugging_face
from megavit.data.split.split_names import SPLITS, parse_split
from megavit.errors import DataError

IN_MEMORY = "images in memory"
"""The name of data that was given as Python objects."""

EXPECTED_OBJECTS = (
    "(images, labels), where images are an array (N, height, width[, channels]) or a list of paths, PIL images or "
    "arrays; a torch.utils.data.Dataset of (image, label) pairs; a pandas or polars data frame; a datasets.Dataset; or "
    'a dict of these by split, such as {"train": ..., "test": ...}'
)


def list_memory(data: object, recipe: DataRecipe) -> Listing:
    """List labeled images given as Python objects; pixels are copied, and files are not opened.

    Args:
        data: what `EXPECTED_OBJECTS` says. Labels are interpreted by
            `megavit.data.sources.records.target_values.read_targets`, and the columns of frames are found as in tables.
        recipe: settings, of which the columns and the images' folder are used.

    Raises:
        DataError: if the data is something else, or an image or a label is invalid.
    """
    parts = {split: _read(part, recipe) for split, part in split_objects(data).items()}
    return list_examples(parts, IN_MEMORY, Path.cwd(), recipe.image_root or ".")


def split_objects(data: object) -> dict[str, object]:
    """Return the parts of data by split, or the data under "" if it is not in parts.

    Raises:
        DataError: if a key of a dict is not the name of a split.
    """
    if not isinstance(data, Mapping):
        return {"": data}
    parts: dict[str, object] = {}
    for name, part in data.items():
        split = parse_split(name) if isinstance(name, str) else None
        if split is None or split in parts:
            raise DataError(
                f"a dict of data must have splits as keys, each of {', '.join(SPLITS)} once; got {list(data)!r}"
            )
        parts[split] = part
    if not parts:
        raise DataError(f"the dict is empty: data can be {EXPECTED_OBJECTS}")
    return parts


def open_object(data: object) -> Records | None:
    """Return the records of a data frame or a data set of Hugging Face; None for other objects."""
    if is_frame(data):
        return open_frame(data)
    return open_hugging_face(data) if is_hugging_face(data) else None


def _read(data: Any, recipe: DataRecipe) -> Examples:
    records = open_object(data)
    if records is not None:
        return read_records(records, recipe)
    if isinstance(data, tuple):
        if len(data) != 2:
            raise DataError(f"a tuple must be (images, labels), got {len(data)} items: data can be {EXPECTED_OBJECTS}")
        return Examples(_zip(*data))
    if not isinstance(data, str | bytes | np.ndarray | torch.Tensor) and (
        isinstance(data, Iterable) or hasattr(data, "__getitem__")
    ):
        return Examples(_pairs(data), getattr(data, "classes", None))
    raise DataError(f"data of type {type(data).__name__} cannot be read: it can be a path, or {EXPECTED_OBJECTS}")


def _zip(images: Any, labels: Any) -> list[Example]:
    if isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 2:
        raise DataError(
            f"the images are an array of shape {tuple(images.shape)}: expected (N, height, width) or (N, height, "
            "width, channels); if each row is a flattened image, reshape it to its height and width"
        )
    for what, values in (("images", images), ("labels", labels)):
        if isinstance(values, str | bytes | Mapping) or not (
            hasattr(values, "__len__") and hasattr(values, "__iter__")
        ):
            raise DataError(f"the {what} in (images, labels) must be a sequence, got {type(values).__name__}")
    if len(images) != len(labels):
        raise DataError(f"there are {len(images):,} images, but {len(labels):,} labels: each image needs one")
    return [(image, label, None) for image, label in zip(images, labels, strict=True)]


def _pairs(data: Any) -> Iterator[Example]:
    """Yield the pairs of a data set of torch, which may have a length and items only, or of a sequence."""
    items = (data[index] for index in range(len(data))) if hasattr(data, "__len__") else iter(data)
    for index, item in enumerate(items):
        if not isinstance(item, Sequence) or isinstance(item, str | bytes) or len(item) != 2:
            raise DataError(
                f"item {index} of the data must be a pair (image, label), got {type(item).__name__}: data can be "
                f"{EXPECTED_OBJECTS}"
            )
        yield item[0], item[1], None
