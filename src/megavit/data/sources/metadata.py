"""Read folders of images with a table named metadata, as the package datasets lays them out."""

from dataclasses import replace
from pathlib import Path

from megavit.config.recipe import DataRecipe
from megavit.data.dataset import Skipped
from megavit.data.file_names import is_hidden
from megavit.data.scan import Candidate, Listing
from megavit.data.sources.records.files import list_record_file
from megavit.data.sources.table import list_table
from megavit.data.sources.table_columns import UnknownColumnsError
from megavit.data.split.split_names import parse_split
from megavit.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
COLUMN = "file_name"


def list_metadata(root: Path, recipe: DataRecipe) -> Listing | None:
    """List the images of a folder by its table, or by one in each of its split folders; None if it has none.

    A table named metadata that has no column file_name, or no labels, is none of these.

    Raises:
        DataError: if only some of the split folders have a table, or these differ in the kind of target.
    """
    whole = _list(root, recipe)
    if whole is not None:
        return _with_note(whole)
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))
    except OSError:
        return None  # reading it as a folder of classes raises the reason
    listings = {folder.name: _list(folder, recipe) for folder in folders if parse_split(folder.name) is not None}
    found = {name: listing for name, listing in listings.items() if listing is not None}
    if not found:
        return None
    missing = [name for name in listings if name not in found]
    if missing:
        raise DataError(
            f"the folder {str(root)!r} has a table such as {METADATA[0]} in {', '.join(map(repr, found))}, but none in "
            f"{', '.join(map(repr, missing))}: add one there, or remove the others"
        )
    return _with_note(_merge(root, found))


def _list(folder: Path, recipe: DataRecipe) -> Listing | None:
    path = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if path is None:
        return None
    recipe = replace(recipe, path_column=recipe.path_column or COLUMN)
    try:
        return list_table(path, recipe) if path.suffix == ".csv" else list_record_file(path, recipe)
    except UnknownColumnsError:
        return None


def _with_note(listing: Listing) -> Listing:
    note = "the labels are read from the tables named metadata, and not from the names of folders"
    return replace(listing, notes=(note, *listing.notes))


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
