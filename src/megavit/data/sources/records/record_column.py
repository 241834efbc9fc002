"""Read a column of records by image, under the names that their listing has."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from megavit.config.recipe import DataRecipe
from megavit.data.sources.column_values import ColumnValues, cell_text, find_value_column
from megavit.data.sources.image_root import SAMPLE, find_image_root
from megavit.data.sources.path_resolver import PathResolver
from megavit.data.sources.records.columns import Records, find_record_columns, image_cell
from megavit.data.sources.records.examples import name_example
from megavit.data.sources.records.image_store import find_path


def read_record_column(
    parts: Mapping[str, Sequence[Records]], column: str, recipe: DataRecipe, source: str, root: Path
) -> dict[str, str]:
    """Return a column's values by image name, as text.

    Args:
        parts: records by split ("" if the data has none).
        recipe: settings, of which the names of columns and the images' folder are used.
        source, root: as for `megavit.data.sources.records.examples.list_examples`.

    Raises:
        DataError: if the column is missing, or an image has two values.
    """
    rows: list[tuple[str, int, str | None, str]] = []
    for split, records in parts.items():
        number = 0
        for part in records:
            header = find_record_columns(part, recipe)
            index = find_value_column(part.source, header, column)
            for image, value in part.read([header.index["path"], index]):
                text = cell_text(value, part.class_names.get(part.names[index]))
                rows.append((split, number, find_path(image_cell(image)), text))
                number += 1
    sample = list(islice((path for _, _, path, _ in rows if path is not None), SAMPLE))
    resolver = PathResolver(root, find_image_root(root, sample, recipe.image_root, source))
    values = ColumnValues(source, column, "row")
    for split, number, path, text in rows:
        values.add(name_example(split, number) if path is None else resolver.find(path), text, number)
    return values.by_name
