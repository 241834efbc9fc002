"""Compare shards with their index by SHA-256."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from megavit.data.byte_range import MAX_CONCURRENT_REQUESTS, get_file_size, iter_chunks
from megavit.data.scan import Progress
from megavit.data.shards.index import Shard, join_path, locate_members
from megavit.data.workers import count_workers, map_in_processes
from megavit.errors import ImageError

Verify = Literal["all", "held-out", "none"]
"""Which shards are verified before use, as in `megavit.data.load.load_data`."""

_MIN_BYTES_FOR_WORKERS = 2**29  # number of bytes below which reading is faster than starting processes


@dataclass(frozen=True, slots=True)
class ShardFault:
    """A shard that differs from its index.

    Attributes:
        shard: name of the shard.
        reason: short description.
        images: reasons by index of the damaged images; None if they were not checked.
    """

    shard: str
    reason: str
    images: dict[int, str] | None


def verify(folder: str, shards: Sequence[Shard], progress: Progress | None = None) -> Iterator[ShardFault]:
    """Yield a fault for each shard that is not as written; raise a DataError if one cannot be reached."""
    workers = count_workers() if sum(shard.size for shard in shards) >= _MIN_BYTES_FOR_WORKERS else 0
    total, done = sum(len(shard.members) for shard in shards), 0
    tasks = [(folder, shard) for shard in shards]
    for shard, fault in zip(shards, map_in_processes(_verify_shard, tasks, workers), strict=True):
        done += len(shard.members)
        if progress is not None:
            progress(done, total)
        if fault is not None:
            yield fault


def find_size_mismatches(folder: str, shards: Sequence[Shard]) -> Iterator[ShardFault]:
    """Yield a fault for each shard that is missing or has a wrong size; raise a DataError if one cannot be reached."""
    files = [join_path(folder, shard.name) for shard in shards]
    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:  # remote stores are slow
        for shard, size in zip(shards, pool.map(get_file_size, files), strict=True):
            reason = _size_fault(size, shard)
            if reason:
                yield ShardFault(shard.name, reason, None)


def _verify_shard(task: tuple[str, Shard]) -> ShardFault | None:
    folder, shard = task
    file = join_path(folder, shard.name)
    reason = _size_fault(get_file_size(file), shard)
    if not reason and _matches_sha256(file, shard):
        return None
    damaged: dict[int, str] = {}
    for index, (_, location) in enumerate(locate_members(folder, shard)):
        try:
            location.read()
        except ImageError as error:
            damaged[index] = error.reason
    return ShardFault(shard.name, reason or "damaged: its SHA-256 differs from that in the index", damaged)


def _matches_sha256(file: str, shard: Shard) -> bool:
    hasher = sha256()
    try:
        for chunk in iter_chunks(file, shard.size):
            hasher.update(chunk)
    except ImageError:
        return False
    return hasher.hexdigest() == shard.sha256


def _size_fault(size: int | None, shard: Shard) -> str:
    if size is None:
        return "missing"
    if size != shard.size:
        return f"{'truncated' if size < shard.size else 'too long'}: {size:,} bytes instead of {shard.size:,}"
    return ""
