"""List examples, images with labels as Python values, wherever they come from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from megavit.config.target import TargetKind
from megavit.data.dataset import MemoryImage
from megavit.data.scan import Listing
from megavit.data.sources.image_root import SAMPLE, find_image_root
from megavit.data.sources.path_resolver import PathResolver
from megavit.data.sources.records.image_store import ImageStore
from megavit.data.sources.records.target_values import read_targets
from megavit.data.sources.rows import Row, RowCollector
from megavit.errors import DataError, ImageError

Example = tuple[object, object, str | None]
"""An image, its label, and its split or None."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples that are read one after the other.

    Attributes:
        rows: the examples.
        class_names: names of the classes by number, if the data has them.
        kind: kind of target; None to tell by the labels.
        notes: remarks on how they are read.
        unit: name of an example in error messages.
    """

    rows: Iterable[Example]
    class_names: Sequence[object] | None = None
    kind: TargetKind | None = None
    notes: tuple[str, ...] = ()
    unit: str = "image"


def list_examples(parts: Mapping[str, Examples], source: str, root: Path, image_root: str | None = None) -> Listing:
    """Return the listing of examples by split ("" if the data has none), with the images that have no files.

    These are named by their split and number. Paths are found by `PathResolver`.

    Args:
        source: name of the data, for errors.
        root: folder that names are relative to.
        image_root: folder that paths are relative to; None to find it, at or below `root`.

    Raises:
        DataError: if there are none, or a label or an image is not what it should be.
    """
    store = ImageStore()
    numbers: list[tuple[str, int]] = []
    images: list[tuple[str, MemoryImage | ImageError | None]] = []
    labels: list[object] = []
    splits: list[str | None] = []

    def where(index: int) -> str:
        split, number = numbers[index]
        return f"{next(iter(parts.values())).unit} {number}" + (f" of {split}" if split else "")

    for split, part in parts.items():
        for number, (image, label, own_split) in enumerate(part.rows):
            numbers.append((split, number))
            stored = store.convert(image, where(len(numbers) - 1))
            images.append((stored, None) if isinstance(stored, str) else (name_example(split, number), stored))
            labels.append(label)
            splits.append(split or own_split)
    if not images:
        raise DataError(f"{source!r} has no images")
    first = next(iter(parts.values()))
    named = [part.class_names for part in parts.values() if part.class_names is not None]
    class_names = named[0] if named else None
    if any(list(names) != list(named[0]) for names in named):
        raise DataError(f"the splits {', '.join(map(repr, parts))} of {source!r} have different class names")
    sample = [path for path, image in islice(images, SAMPLE) if image is None]
    names = PathResolver(root, find_image_root(root, sample, image_root, source))
    targets = read_targets(labels, class_names, first.kind, where)
    collector = RowCollector(source, names, "labels" if targets.kind == "multilabel" else "label", first.unit)
    collector.add_all(
        Row(number, path, target, split, image)
        for (_, number), (path, image), target, split in zip(numbers, images, targets.values, splits, strict=True)
    )
    has_files = len(collector.memory) < len(collector.candidates)
    notes = dict.fromkeys((*(note for part in parts.values() for note in part.notes), *names.notes(), *targets.notes))
    return Listing(
        root if has_files else None,
        targets.classes,
        tuple(collector.candidates),
        tuple(collector.skipped),
        targets.kind,
        tuple(notes),
        collector.memory,
    )


def name_example(split: str, number: int) -> str:
    """Return the name of an image without a file, by its split, "" for none, and its number in it."""
    return f"{split}/{number:04d}" if split else f"{number:04d}"
