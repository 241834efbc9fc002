"""List the images in files of records: JSON, JSON lines and Parquet."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from megavit.config.recipe import DataRecipe
from megavit.data.scan import Listing
from megavit.data.sources.records.columns import Records
from megavit.data.sources.records.examples import list_examples
from megavit.data.sources.records.json_file import JSON_LINES, open_json, read_json
from megavit.data.sources.records.parquet import PARQUET, open_parquet, read_parquet

RECORD_SUFFIXES = (".json", *JSON_LINES, PARQUET)


def list_record_file(path: Path, recipe: DataRecipe) -> Listing:
    """List the images in a file with one of `RECORD_SUFFIXES`; paths in it are relative to its folder.

    Raises:
        DataError: if it is damaged, of another kind, or needs a package that is not installed.
    """
    if path.suffix.lower() == PARQUET:
        return list_parquet([path], str(path), path.parent, recipe)
    return list_examples({"": read_json(path, recipe)}, str(path), path.parent, recipe.image_root)


def list_parquet(files: list[Path], source: str, root: Path, recipe: DataRecipe) -> Listing:
    """List the images in Parquet files; paths in them are relative to `root`."""
    return list_examples(read_parquet(files, recipe), source, root, recipe.image_root)


def open_record_file(path: Path) -> Mapping[str, Sequence[Records]]:
    """Return the records of a file with one of `RECORD_SUFFIXES`, under "" as their split.

    Raises:
        DataError: as in `list_record_file`, or if the file has no columns.
    """
    return open_parquet([path]) if path.suffix.lower() == PARQUET else {"": [open_json(path)]}
