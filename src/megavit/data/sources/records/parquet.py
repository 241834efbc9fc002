"""Read Parquet files by the optional package pyarrow, such as those of Hugging Face with the bytes of images."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from megavit.config.recipe import DataRecipe
from megavit.data.sources.records.columns import Records, read_records
from megavit.data.sources.records.examples import Examples
from megavit.data.sources.records.packages import import_package
from megavit.data.split.split_names import parse_split
from megavit.errors import DataError

PARQUET = ".parquet"

_ROWS = 64  # number of rows read at once
_PART = re.compile(r"-\d+-of-\d+$")


def find_parquet(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder or its subfolders if it has no other files, in order of names."""
    files = sorted(path for path in folder.glob(f"*{PARQUET}")) or sorted(folder.glob(f"*/*{PARQUET}"))
    return [path for path in files if path.is_file()]


def read_parquet(files: Sequence[Path], recipe: DataRecipe) -> dict[str, Examples]:
    """Return the examples of Parquet files by their split, or under "" if their names tell none.

    Raises:
        DataError: as in `open_parquet`, or if the columns cannot be found.
    """
    return {
        split: _join([read_records(part, recipe) for part in parts]) for split, parts in open_parquet(files).items()
    }


def open_parquet(files: Sequence[Path]) -> dict[str, list[Records]]:
    """Return the records of Parquet files by their split, or under "" if their names tell none.

    Raises:
        DataError: if pyarrow is not installed, a file is damaged, or the names of some tell a split and others none.
    """
    parquet = import_package("pyarrow.parquet", "parquet", "Parquet")
    by_split: dict[str, list[Path]] = {}
    for path in files:
        name = _PART.sub("", path.stem)
        by_split.setdefault(parse_split(name) or parse_split(path.parent.name) or "", []).append(path)
    if len(files) == 1:
        by_split = {"": list(files)}
    if "" in by_split and len(by_split) > 1:
        raise DataError(
            f"the name of {str(by_split[''][0])!r} tells no split, but that of other files does: name each after its "
            "split, such as train-00000-of-00001.parquet"
        )
    return {split: [_open_file(parquet, path) for path in paths] for split, paths in by_split.items()}


def _join(parts: Sequence[Examples]) -> Examples:
    return Examples(
        chain.from_iterable(part.rows for part in parts), parts[0].class_names, parts[0].kind, parts[0].notes, "row"
    )


def _open_file(parquet: Any, path: Path) -> Records:
    with _converted_errors(path):
        schema = parquet.read_schema(path)
    features = _features(schema.metadata or {})
    class_names = {
        name: feature["names"]
        for name, feature in features.items()
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    }
    images = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    return Records(
        str(path),
        tuple(schema.names),
        partial(_rows, parquet, path, tuple(schema.names)),
        class_names,
        image_column=images[0] if len(images) == 1 else None,
        label_column=next(iter(class_names)) if len(class_names) == 1 else None,
    )


def _rows(parquet: Any, path: Path, names: Sequence[str], indices: Sequence[int]) -> Iterator[Sequence[object]]:
    chosen = [names[index] for index in indices]
    with _converted_errors(path), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(chosen))):
            columns = [batch.column(name) for name in chosen]
            # One by one: equal values are stored once, and as Python objects could fill the memory.
            yield from ([column[row].as_py() for column in columns] for row in range(batch.num_rows))


@contextmanager
def _converted_errors(path: Path) -> Iterator[None]:
    """Convert pyarrow's errors, which are ValueError, OSError and NotImplementedError, to a DataError."""
    try:
        yield
    except (ValueError, OSError, NotImplementedError) as error:
        raise DataError(f"the Parquet file {str(path)!r} cannot be read: {error}") from error


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """Return what the package datasets writes on the columns; none if it is missing or damaged."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
