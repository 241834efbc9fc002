"""From what a person calls the shards to their folder and index, which is made where there is none."""

import contextlib
import os
import re
from pathlib import Path

from megavit.data.ranges import is_url, read_range, size_of
from megavit.data.scan import Progress
from megavit.data.shards.index import INDEX, ShardIndex, parse_index, place_of
from megavit.data.shards.scan import scan_shards
from megavit.errors import DataError, ImageError
from megavit.runtime.storage import write_file

SUFFIX = ".tar"
# What others put beside their shards.
_BESIDE = (".json", ".jsonl", ".idx", ".txt", ".md", ".yaml", ".yml", ".csv", ".tsv", ".parquet")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000


def is_shards(source: str) -> bool:
    """Whether this names shards: a folder with an index, or of tar files and no images; tar files; or a URL."""
    if is_url(source) or source.lower().endswith(SUFFIX):
        return True
    if not os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        return False
    folder = Path(source)
    try:
        if (folder / INDEX).is_file():
            return True
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return False  # whoever reads it says why
    others = [entry for entry in entries if not _is_tar(entry)]
    return len(others) < len(entries) and all(entry.suffix.lower() in _BESIDE for entry in others)


def open_shards(source: str, progress: Progress | None = None) -> tuple[str, ShardIndex]:
    """The folder, a path or URL, and the index of its shards.

    Shards without one are read once, as those of others are; what is found is written beside them where that is
    possible, so that the next time is quick.

    Args:
        source: a folder, a tar file, or several of these as `train-{0000..0031}.tar`; paths or URLs.

    Raises:
        DataError: where there are no shards, or the index is damaged.
    """
    if source.lower().endswith(SUFFIX):
        folder, _, pattern = source.rpartition("/")
        index = scan_shards(folder, _expanded(pattern), progress)
        return folder, index
    where = place_of(source, INDEX)
    size = size_of(where)
    if size is not None:
        try:
            return source, parse_index(read_range(where, 0, size), where)
        except ImageError as error:
            raise DataError(f"{where} cannot be read: {error.reason}") from error
    if is_url(source):
        like = place_of(source, "train-{0000..0031}.tar")
        raise DataError(f"there is no {INDEX} at {source!r}; name shards that have none as in {like}")
    names = sorted(entry.name for entry in Path(source).iterdir() if _is_tar(entry))
    index = scan_shards(source, names, progress)
    with contextlib.suppress(OSError):  # another's folder may not be ours to write in
        write_file(Path(where), index.to_json())
    return source, index


def _is_tar(entry: Path) -> bool:
    return entry.suffix.lower() == SUFFIX and not entry.name.startswith(".") and entry.is_file()


def _expanded(pattern: str) -> list[str]:
    """The names that `train-{0000..0031}.tar` stands for."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _MOST_SHARDS:
        raise DataError(f"{found[0]} must count upwards, and to no more than {_MOST_SHARDS:,} shards")
    width = len(found[1])
    return [f"{pattern[: found.start()]}{number:0{width}}{pattern[found.end() :]}" for number in range(first, last + 1)]
