"""Read folders of images with a table in them, as the package datasets and Roboflow lay them out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from megavit.config.recipe import DataRecipe
from megavit.data.dataset import Skipped
from megavit.data.file_names import is_hidden
from megavit.data.scan import Candidate, Listing
from megavit.data.sources.open_table import open_table
from megavit.data.sources.records.columns import find_record_columns
from megavit.data.sources.records.files import list_record_file, open_record_file
from megavit.data.sources.records.record_column import read_record_column
from megavit.data.sources.table import list_table, read_column
from megavit.data.sources.table_columns import UnknownColumnsError
from megavit.data.split.split_names import parse_split
from megavit.errors import DataError

# The names of tables, and of the columns of their images.
METADATA = {
    "metadata.csv": "file_name",
    "metadata.jsonl": "file_name",
    "metadata.parquet": "file_name",
    "_classes.csv": "filename",
}

T = TypeVar("T")


def list_metadata(root: Path, recipe: DataRecipe) -> Listing | None:
    """List the images of a folder by its table, or by one in each of its split folders; None if it has none.

    A table with one of the names in `METADATA` that has no such column, or no labels, is none of these.

    Raises:
        DataError: if only some of the split folders have a table, or these differ in the kind of target.
    """
    found = _read_tables(root, recipe, _list)
    if not found:
        return None
    listing = found[""] if "" in found else _merge(root, found)
    tables = sorted({path.name for folder in found if (path := _find_table(root / folder)) is not None})
    note = f"the labels are read from {', '.join(tables)}, and not from the names of folders"
    return replace(listing, notes=(note, *listing.notes))


def read_metadata_column(root: Path, column: str, recipe: DataRecipe) -> dict[str, str] | None:
    """Return the values of a column of the tables that `list_metadata` reads, by image name; None if there are none.

    Raises:
        DataError: as in `list_metadata`, or if the column is missing, or an image has two values.
    """

    def read(path: Path, recipe: DataRecipe) -> dict[str, str]:
        if path.suffix == ".csv":
            return read_column(path, column, recipe)
        return read_record_column(open_record_file(path), column, recipe, str(path), path.parent)

    found = _read_tables(root, recipe, read)
    names = {folder: f"{folder}/" if folder else "" for folder in found}
    return {names[folder] + name: value for folder, part in found.items() for name, value in part.items()} or None


def _read_tables(root: Path, recipe: DataRecipe, read: Callable[[Path, DataRecipe], T]) -> dict[str, T]:
    """Return what `read` makes of the table in a folder, under "", or of those in its split folders, by folder."""
    whole = _read_table(root, recipe, read)
    if whole is not None:
        return {"": whole}
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))
    except OSError:
        return {}  # reading it as a folder of classes raises the reason
    parts = {path.name: _read_table(path, recipe, read) for path in folders if parse_split(path.name) is not None}
    found = {name: part for name, part in parts.items() if part is not None}
    missing = [name for name in parts if name not in found]
    if found and missing:
        raise DataError(
            f"the folder {str(root)!r} has a table such as metadata.csv in {', '.join(map(repr, found))}, but none in "
            f"{', '.join(map(repr, missing))}: add one there, or remove the others"
        )
    return found


def _find_table(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _read_table(folder: Path, recipe: DataRecipe, read: Callable[[Path, DataRecipe], T]) -> T | None:
    path = _find_table(folder)
    if path is None:
        return None
    recipe = replace(recipe, path_column=recipe.path_column or METADATA[path.name])
    try:
        return read(path, recipe) if _has_labels(path, recipe) else None
    except UnknownColumnsError:
        return None


def _has_labels(path: Path, recipe: DataRecipe) -> bool:
    """Return whether a table has labels; columns of 0 and 1 beside folders may be features, and the folders classes."""
    if path.suffix == ".csv":
        with open_table(path, recipe) as table:
            header = table.header
    else:
        header = find_record_columns(open_record_file(path)[""][0], recipe)
    return not header.indicators or not any(
        inner.is_dir() and not is_hidden(inner.name) for inner in path.parent.iterdir()
    )


def _list(path: Path, recipe: DataRecipe) -> Listing:
    return list_table(path, recipe) if path.suffix == ".csv" else list_record_file(path, recipe)


def _merge(root: Path, listings: dict[str, Listing]) -> Listing:
    kinds = {listing.target for listing in listings.values()}
    if len(kinds) > 1:
        raise DataError(f"the tables of {str(root)!r} differ in their targets: {', '.join(sorted(kinds))}")
    return Listing(
        root,
        tuple(sorted({name for listing in listings.values() for name in listing.classes})),
        tuple(
            Candidate(f"{folder}/{candidate.name}", candidate.target, candidate.split or parse_split(folder))
            for folder, listing in listings.items()
            for candidate in listing.candidates
        ),
        tuple(
            Skipped(f"{folder}/{skipped.name}", skipped.reason)
            for folder, listing in listings.items()
            for skipped in listing.skipped
        ),
        kinds.pop(),
        tuple(dict.fromkeys(note for listing in listings.values() for note in listing.notes)),
        {f"{folder}/{name}": image for folder, listing in listings.items() for name, image in listing.memory.items()},
    )
