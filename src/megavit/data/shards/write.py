"""Write images into indexed tar shards, shuffled, with the bytes of their files unchanged."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path, PurePosixPath

from megavit.data.byte_range import ByteRange, content_digest
from megavit.data.decode.image_file import read_file
from megavit.data.file_names import IMAGE_SUFFIXES
from megavit.data.scan import Candidate, ImageInfo, Listing, Progress
from megavit.data.shards.index import INDEX, Member, Shard, ShardIndex
from megavit.data.shards.tar import BLOCK, END, entry_size, header, padding
from megavit.data.targets import TargetValue, index_target
from megavit.data.workers import count_workers, map_in_processes
from megavit.errors import DataError, ImageError, OutputError
from megavit.runtime.storage import check_writable, new_folder, writing

MIN_SHARD_BYTES = 2**16
NO_SPLIT_PREFIX = "data"  # prefix of shard names for images without a defined split

_MIN_BYTES_FOR_WORKERS = 2**28  # number of bytes below which writing is faster than starting processes


@dataclass(frozen=True, slots=True)
class _Image:
    """An image to write as KEY.KIND, read from a file or another shard, with (kind, content) of its target's file."""

    name: str
    source: str | ByteRange
    size: int
    info: ImageInfo
    target: TargetValue
    key: str
    kind: str
    sidecar: tuple[str, bytes]

    @property
    def bytes_in_shard(self) -> int:
        return entry_size(self.size) + entry_size(len(self.sidecar[1]))


def write_shards(
    listing: Listing,
    found: Sequence[ImageInfo | str],
    out: Path,
    *,
    size: int,
    seed: int,
    progress: Progress | None = None,
) -> ShardIndex:
    """Write the images found by `scan_source` into shards in a new folder, which appears only when complete.

    Each split has its own shards, over which its images are shuffled. Images without a split are divided when the
    shards are read, in the same way as in a folder. Equal images, size and seed give equal bytes.

    Args:
        size: size of a shard in bytes; only a single larger image exceeds it.
        seed: random seed of the shuffling.
        progress: function called with the number of images written and the total.

    Raises:
        OutputError: if `out` is not empty or cannot be written, `size` is too small, or the disk is full.
        DataError: if a file has changed since it was scanned, or no image is readable.
    """
    if size < MIN_SHARD_BYTES:
        raise OutputError(f"a shard must have at least {MIN_SHARD_BYTES:,} bytes, got {size:,}")
    plan = list(_plan_shards(listing, found, size, seed))
    total = sum(image.bytes_in_shard for _, _, images in plan for image in images)
    with writing("the shards", out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{out} already exists and is not empty: choose a new folder with --out")
        out.parent.mkdir(parents=True, exist_ok=True)
    check_writable(out.parent, "writing the shards", need=total)
    with writing("the shards", out), new_folder(out) as folder:
        tasks = [(folder / name, split, images) for name, split, images in plan]
        shards: list[Shard] = []
        done, count = 0, sum(len(images) for _, _, images in plan)
        for shard in map_in_processes(_write, tasks, count_workers() if total >= _MIN_BYTES_FOR_WORKERS else 0):
            shards.append(shard)
            done += len(shard.members)
            if progress is not None:
                progress(done, count)
        index = ShardIndex(
            listing.target,
            listing.classes,
            tuple(sorted(shards, key=lambda shard: shard.name)),
            (
                *((skipped.name, skipped.reason) for skipped in listing.skipped),
                *(
                    (candidate.name, info)
                    for candidate, info in zip(listing.candidates, found, strict=True)
                    if isinstance(info, str)
                ),
            ),
        )
        (folder / INDEX).write_text(index.to_json(), encoding="ascii")
    return index


def _plan_shards(
    listing: Listing, found: Sequence[ImageInfo | str], size: int, seed: int
) -> Iterator[tuple[str, str | None, list[_Image]]]:
    readable = [
        (candidate, info)
        for candidate, info in zip(listing.candidates, found, strict=True)
        if isinstance(info, ImageInfo)
    ]
    if not readable:
        raise DataError("there are no readable images to write into shards")
    class_indices = {name: index for index, name in enumerate(listing.classes)}
    key = 0
    for split in sorted({candidate.split for candidate, _ in readable}, key=str):
        # By digest and name, so that the order is the same on every machine.
        shuffled = sorted(
            (_shuffle_key(seed, candidate.name), candidate.name, candidate, info)
            for candidate, info in readable
            if candidate.split == split
        )
        images: list[_Image] = []
        used, shard = len(END), 0
        for _, _, candidate, info in shuffled:
            image = _image(listing, candidate, info, class_indices, f"{key:09d}")
            key += 1
            if images and used + image.bytes_in_shard > size:
                yield f"{split or NO_SPLIT_PREFIX}-{shard:06d}.tar", split, images
                images, used, shard = [], len(END), shard + 1
            images.append(image)
            used += image.bytes_in_shard
        yield f"{split or NO_SPLIT_PREFIX}-{shard:06d}.tar", split, images


def _shuffle_key(seed: int, name: str) -> bytes:
    return blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _image(listing: Listing, candidate: Candidate, info: ImageInfo, class_indices: dict[str, int], key: str) -> _Image:
    target = index_target(candidate.target, class_indices)
    if candidate.location is not None:
        source, size = candidate.location, candidate.location.size
    else:
        assert listing.root is not None
        source = str(listing.root / candidate.name)
        size = 0
        with suppress(OSError):  # reading it will raise
            size = os.stat(source).st_size  # noqa: PTH116 - faster for a million files
    suffix = PurePosixPath(candidate.name).suffix[1:].lower()
    return _Image(
        candidate.name,
        source,
        size,
        info,
        target,
        key,
        suffix if suffix in IMAGE_SUFFIXES else "bin",
        _sidecar(candidate, target),
    )


def _sidecar(candidate: Candidate, target: TargetValue) -> tuple[str, bytes]:
    match candidate.target:
        case str():
            return "cls", str(target).encode()
        case tuple() as labels:
            return "json", _json({"labels": list(labels)})
        case value:
            return "json", _json({"score": value})


def _json(table: dict[str, object]) -> bytes:
    return json.dumps(table, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _write(task: tuple[Path, str | None, list[_Image]]) -> Shard:
    path, split, images = task
    hasher, offset = sha256(), 0
    members: list[Member] = []
    with path.open("xb") as file:
        for image in images:
            data = _content(image)
            members.append(
                Member(
                    image.name,
                    image.target,
                    offset + BLOCK,
                    len(data),
                    image.info.digest,
                    image.info.height,
                    image.info.width,
                    image.info.channels,
                )
            )
            for kind, content in ((image.kind, data), image.sidecar):
                for part in (header(f"{image.key}.{kind}", len(content)), content, padding(len(content))):
                    hasher.update(part)
                    offset += file.write(part)
        hasher.update(END)
        offset += file.write(END)
    return Shard(path.name, offset, hasher.hexdigest(), split, tuple(members))


def _content(image: _Image) -> bytes:
    try:
        data = image.source.read() if isinstance(image.source, ByteRange) else read_file(Path(image.source))
    except ImageError as error:
        raise DataError(f"{image.name!r} can no longer be read: {error.reason}") from error
    if content_digest(data) != image.info.digest:
        raise DataError(f"{image.name!r} changed while the shards were being written: write them again")
    return data
