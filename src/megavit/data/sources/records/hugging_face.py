"""Read data sets of the Hugging Face package datasets, which is imported only to load them by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from megavit.config.recipe import DataRecipe
from megavit.data.scan import Listing
from megavit.data.sources.records.columns import Records, read_records
from megavit.data.sources.records.examples import list_examples
from megavit.data.sources.records.packages import import_package
from megavit.data.split.split_names import SPLITS, parse_split
from megavit.errors import DataError

HUB_PREFIX = "hf:"


def is_hugging_face(data: object) -> bool:
    """Return whether an object is a datasets.Dataset or datasets.IterableDataset."""
    return type(data).__module__.partition(".")[0] == "datasets" and hasattr(data, "features")


def open_hugging_face(data: Any) -> Records:
    """Return the records of a data set, with its images as the bytes of their files.

    The column of images is the one with the feature Image, and the column of labels the one with ClassLabel, if there
    is one of each; otherwise they are found as in tables.
    """
    features = data.features or {}
    images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    class_names = {name: names for name, feature in features.items() if (names := _class_names(feature)) is not None}
    names = tuple(features)

    def rows(indices: Sequence[int]) -> Iterator[Sequence[object]]:
        chosen = [names[index] for index in indices]
        selected = data.select_columns(list(dict.fromkeys(chosen))).with_format(None)
        for name in images:
            if name in chosen:
                # Its pixels are decoded here, under the same limits as others.
                selected = selected.cast_column(name, type(features[name])(decode=False))
        for row in selected:
            yield [row[name] for name in chosen]

    return Records(
        "the data set",
        names,
        rows,
        class_names,
        image_column=images[0] if len(images) == 1 else None,
        label_column=next(iter(class_names)) if len(class_names) == 1 else None,
    )


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of a ClassLabel, or of a list of it."""
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    return list(inner.names) if type(inner).__name__ == "ClassLabel" else None


def list_hub(source: str, recipe: DataRecipe) -> Listing:
    """List the images of `hf:NAME`, a data set on the hub of Hugging Face or in a folder, by the package datasets.

    Raises:
        DataError: as in `open_hub`.
    """
    parts = {split: read_records(records, recipe) for split, records in open_hub(source).items()}
    return list_examples(parts, source, Path.cwd(), recipe.image_root)


def open_hub(source: str) -> dict[str, Records]:
    """Return the records of `hf:NAME` by split, or under "" if they are all for training.

    Raises:
        DataError: if the package datasets is not installed, or cannot load the data set.
    """
    name = source.removeprefix(HUB_PREFIX)
    datasets = import_package("datasets", "datasets", "data sets of Hugging Face")
    try:
        loaded = datasets.load_dataset(name)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"the data set {name!r} cannot be loaded: {error}") from error
    parts: dict[str, Records] = {}
    for split_name, part in loaded.items():
        split = parse_split(split_name)
        if split is None or split in parts:
            raise DataError(
                f"the data set {name!r} has the splits {', '.join(map(repr, loaded))}, which are not one each of "
                f"{', '.join(SPLITS)}: pass megavit the ones to use from Python, as a dict"
            )
        parts[split] = open_hugging_face(part)
    return {"": parts["train"]} if list(parts) == ["train"] else parts
