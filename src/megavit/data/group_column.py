"""Read a column of a data source by image, such as the camera, for whose values metrics of their own are computed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from megavit.config.recipe import DataRecipe
from megavit.data.load import TABLES, DataSource, apply_columns, is_named, name_source
from megavit.data.shards.open import is_shards
from megavit.data.sources.metadata import read_metadata_column
from megavit.data.sources.records.files import RECORD_SUFFIXES, open_record_file
from megavit.data.sources.records.hugging_face import HUB_PREFIX, open_hub
from megavit.data.sources.records.memory import open_object, split_objects
from megavit.data.sources.records.parquet import find_parquet, open_parquet
from megavit.data.sources.records.record_column import read_record_column
from megavit.data.sources.table import DEFAULTS, read_column
from megavit.errors import DataError


@dataclass(frozen=True)
class GroupColumn:
    """A column of a data source, with its value for each image name.

    Attributes:
        source: name of the data, for errors.
    """

    name: str
    source: str
    values: Mapping[str, str]


def read_group_column(source: DataSource, column: str, recipe: DataRecipe = DEFAULTS) -> GroupColumn:
    """Return a column of a table, or of any other data with columns, by the names of images that `load_data` gives.

    Raises:
        DataError: if the data has no columns, or no such column, or an image has two values.
    """
    values = _read(source, column, apply_columns(recipe, source))
    name = name_source(source)
    if values is None:
        raise DataError(
            f"--group-by {column} needs a table, but {name!r} is not one: write a .csv such as\n"
            f"  path,label,{column}\n  photos/1.jpg,cat,north"
        )
    return GroupColumn(column, name, values)


def _read(source: DataSource, column: str, recipe: DataRecipe) -> dict[str, str] | None:
    """Return the values by name of image, for each kind of data as `megavit.data.load.scan_source` distinguishes it."""
    text, path = name_source(source), Path(name_source(source))
    if not is_named(source):
        opened = {split: open_object(part) for split, part in split_objects(source).items()}
        records = {split: [part] for split, part in opened.items() if part is not None}
        if len(records) < len(opened):
            return None
        recipe = replace(recipe, image_root=recipe.image_root or ".")
        return read_record_column(records, column, recipe, text, Path.cwd())
    if text.startswith(HUB_PREFIX):
        hub = {split: [part] for split, part in open_hub(text).items()}
        return read_record_column(hub, column, recipe, text, Path.cwd())
    if is_shards(text):
        return None
    if path.is_file() and path.suffix.lower() in TABLES:
        return read_column(path, column, recipe)
    if path.is_file() and path.suffix.lower() in RECORD_SUFFIXES:
        return read_record_column(open_record_file(path), column, recipe, text, path.parent)
    if not path.is_dir():
        return None
    values = read_metadata_column(path, column, recipe)
    if values is None and (files := find_parquet(path)):
        return read_record_column(open_parquet(files), column, recipe, text, path)
    return values
