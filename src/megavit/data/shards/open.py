"""Find the folder and the index of shards, and make the index if there is none."""

import contextlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from megavit.data.byte_range import get_file_size, is_url, read_range
from megavit.data.file_names import IMAGE_SUFFIXES, is_hidden
from megavit.data.shards.index import INDEX, ShardIndex, is_shard_name, is_tar, join_path, parse_index
from megavit.errors import DataError, ImageError
from megavit.runtime.storage import write_file

if TYPE_CHECKING:
    from megavit.data.scan import Progress

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SHARDS = 1_000_000
MAX_INDEX_BYTES = 2**30


def is_shards(source: str) -> bool:
    """Return whether a source is a URL, a tar file, or a folder of shards.

    Such a folder has an index, or tar files but no images or subfolders.
    """
    if is_url(source) or is_tar(source):
        return True
    if not os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        return False
    folder = Path(source)
    try:
        if (folder / INDEX).is_file():
            return True
        entries = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
    except OSError:
        return False  # reading it will raise
    return any(map(_is_shard, entries)) and not any(
        entry.is_dir() or entry.suffix[1:].lower() in IMAGE_SUFFIXES for entry in entries
    )


def check_not_nearly_shards(source: str) -> None:
    """Raise a DataError for compressed shards, or a folder of folders of shards."""
    if _is_compressed(source):
        raise DataError(f"{source!r} is compressed, so parts of it cannot be read: decompress it first")
    try:
        entries = sorted(entry for entry in Path(source).iterdir() if not is_hidden(entry.name))
        inner = [next(entry.glob("*.tar"), None) for entry in entries if entry.is_dir()]
    except OSError:
        return
    if entries and all(_is_compressed(entry.name) for entry in entries):
        raise DataError(f"the shards of {source!r} are compressed, so parts of them cannot be read: decompress them")
    found = next((tar for tar in inner if tar is not None), None)
    if found is not None and len(inner) == len(entries):
        raise DataError(
            f"{source!r} has its shards in subfolders, such as {str(found)!r}: pass one of these folders, or put all "
            "shards into one folder, with names that begin with train-, val- or test-"
        )


def open_shards(source: str, progress: "Progress | None" = None) -> tuple[str, ShardIndex]:
    """Return the folder of shards, a path or URL, and the index of all or the named ones.

    Shards without an index are read once. For a full local folder, the new index is saved there if possible.

    Args:
        source: path or URL of a folder, a tar file, or several such as `train-{0000..0031}.tar`.

    Raises:
        DataError: if there are no shards, or the index is damaged.
    """
    from megavit.data.shards.scan import scan_shards  # imports PyTorch

    if is_tar(source):
        folder, _, pattern = source.rpartition("/")
        names = _expand_braces(pattern)
        index = read_index(join_path(folder, INDEX))
        known = {shard.name: shard for shard in index.shards} if index else {}
        if index is None or not set(names) <= set(known):
            return folder, scan_shards(folder, names, progress)
        damaged = tuple(row for row in index.damaged if row[0].partition("/")[0] in names)
        return folder, replace(index, shards=tuple(known[name] for name in sorted(set(names))), damaged=damaged)
    index = read_index(join_path(source, INDEX))
    if index is not None:
        return source, index
    if is_url(source):
        example = join_path(source, "train-{0000..0031}.tar")
        raise DataError(f"there is no {INDEX} at {source!r}: pass shards without an index as {example}")
    names = sorted(entry.name for entry in Path(source).iterdir() if _is_shard(entry))
    index = scan_shards(source, names, progress)
    # A truncated shard may be complete the next time.
    if not {name for name, _ in index.damaged} & set(names):
        with contextlib.suppress(OSError):  # the folder may be read-only
            write_file(Path(join_path(source, INDEX)), index.to_json())
    return source, index


def read_index(location: str) -> ShardIndex | None:
    """Read an index by path or URL, or return None if there is none; raise a DataError if unreadable or damaged."""
    size = get_file_size(location)
    if size is None:
        return None
    if size > MAX_INDEX_BYTES:
        raise DataError(
            f"{location} has {size:,} bytes, but an index may have at most {MAX_INDEX_BYTES:,} (about ten million "
            "images): divide the shards among several folders"
        )
    try:
        return parse_index(read_range(location, 0, size), location)
    except ImageError as error:
        raise DataError(f"{location} cannot be read: {error.reason}") from error


def _is_compressed(name: str) -> bool:
    return name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))


def _is_shard(entry: Path) -> bool:
    return is_shard_name(entry.name) and entry.is_file()


def _expand_braces(pattern: str) -> list[str]:
    """Expand `train-{0000..0031}.tar` to the names of all its files."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _MAX_SHARDS:
        raise DataError(f"{found[0]} must be an ascending range of at most {_MAX_SHARDS:,} shards")
    width = len(found[1])
    return [f"{pattern[: found.start()]}{number:0{width}}{pattern[found.end() :]}" for number in range(first, last + 1)]
