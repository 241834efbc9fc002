"""Index shards that have no index, by reading every file in them once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from megavit.config.target import TargetKind
from megavit.data.byte_range import content_digest, get_file_size, iter_chunks
from megavit.data.decode.image_file import inspect_image
from megavit.data.file_names import HIDDEN, IMAGE_SUFFIXES, is_hidden
from megavit.data.scan import Progress
from megavit.data.shards.index import Member, Shard, ShardIndex, is_file_name, join_path
from megavit.data.shards.tar import TarEntry, read_entries
from megavit.data.shards.webdataset import TARGETS, SampleFiles, parse_target, split_key
from megavit.data.split.split_names import parse_name
from megavit.data.targets import NamedTarget, index_target, names_in
from megavit.data.workers import count_workers, map_in_processes
from megavit.errors import DataError, ImageError

_MAX_TARGET_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _ShardContent:
    """The images of a shard with their targets, and what could not be used (as in `ShardIndex`)."""

    size: int
    sha256: str
    images: tuple[tuple[Member, NamedTarget | None], ...]
    skipped: tuple[tuple[str, str], ...]
    damaged: tuple[tuple[str, str], ...]


class ForwardReader:
    """A file read once from beginning to end, in which seeking is only possible forward."""

    def __init__(self, file: str, size: int) -> None:
        self.sha256 = sha256()
        self._chunks = iter_chunks(file, size)
        self._size, self._start, self._position = size, 0, 0
        self._buffer = b""

    def seek(self, offset: int) -> None:
        self._position = offset

    def read(self, size: int) -> bytes:
        end = min(self._position + size, self._size)
        while self._start + len(self._buffer) < end:
            chunk = next(self._chunks)
            self.sha256.update(chunk)
            consumed = min(self._position - self._start, len(self._buffer))
            self._buffer, self._start = self._buffer[consumed:] + chunk, self._start + consumed
        data = self._buffer[self._position - self._start : end - self._start]
        self._position = end
        return data

    def hash_to_end(self) -> str:
        """Read to the end, and return the SHA-256 of the file."""
        for chunk in self._chunks:
            self.sha256.update(chunk)
        return self.sha256.hexdigest()


def scan_shards(folder: str, names: Sequence[str], progress: Progress | None = None) -> ShardIndex:
    """Return the index of tar files in a folder, given by path or URL.

    Raises:
        DataError: if a file cannot be reached, none has images, or their targets are of different kinds.
    """
    names = sorted(set(names))
    workers = count_workers() if len(names) > 1 else 0
    shards: list[tuple[str, _ShardContent]] = []
    skipped: list[tuple[str, str]] = []
    damaged: list[tuple[str, str]] = []
    splits = {name: shard_split(name) for name in names}
    tasks = [(folder, name) for name in names]
    for done, (name, content) in enumerate(zip(names, map_in_processes(_scan, tasks, workers), strict=True), start=1):
        if isinstance(content, str):
            damaged.append((name, content))
        else:
            shards.append((name, content))
            skipped += content.skipped
            damaged += content.damaged
        if progress is not None:
            progress(done, len(names))
    targets = [target for _, content in shards for _, target in content.images if target is not None]
    if not any(content.images for _, content in shards):
        first = f"; {damaged[0][0]}: {damaged[0][1]}" if damaged else ""
        raise DataError(f"there are no images in the {len(names):,} shards of {folder or '.'!r}{first}")
    kind = _target_kind(folder, targets)
    classes = _classes(targets)
    class_indices = {name: index for index, name in enumerate(classes)}
    return ShardIndex(
        kind,
        classes,
        tuple(
            Shard(
                name,
                content.size,
                content.sha256,
                splits[name],
                tuple(
                    replace(member, target=None if target is None else index_target(target, class_indices))
                    for member, target in content.images
                ),
            )
            for name, content in shards
        ),
        tuple(skipped),
        tuple(damaged),
    )


def shard_split(name: str) -> str | None:
    """Return the split in a shard's name, such as `train-0000.tar`, or None; raise a DataError if it names two."""
    splits = parse_name(name).splits
    if len(splits) > 1:
        raise DataError(
            f"the name of the shard {name!r} contains {' and '.join(splits)}: rename it so that it names one split"
        )
    return splits[0] if splits else None


def _scan(task: tuple[str, str]) -> _ShardContent | str:
    folder, name = task
    file = join_path(folder, name)
    try:
        size = get_file_size(file)
        if size is None:
            return "missing"
        stream = ForwardReader(file, size)
        return _scan_stream(name, size, stream)
    except ImageError as error:
        return error.reason


def _scan_stream(shard: str, size: int, stream: ForwardReader) -> _ShardContent:
    samples: dict[str, SampleFiles] = {}
    skipped: list[tuple[str, str]] = []
    damaged: list[tuple[str, str]] = []
    for entry in read_entries(stream, size):
        if isinstance(entry, str):
            damaged.append((shard, entry))
            continue
        key, kind = split_key(entry.name)
        name = f"{shard}/{entry.name}"
        if not is_file_name(name):
            damaged.append((shard, f"a file with an invalid name: {name!a:.80}"))
        elif any(map(is_hidden, entry.name.split("/"))):
            skipped.append((name, HIDDEN))
        else:
            sample = samples.setdefault(key, SampleFiles())
            try:
                _add_file(sample, name, kind, entry, stream)
            except ImageError as error:
                damaged.append((name, error.reason))
            sample.kinds.add(kind)
    for key, sample in samples.items():
        if sample.fault:
            (skipped if sample.is_metadata else damaged).append((f"{shard}/{key}", sample.fault))
    pairs = tuple((sample.image, sample.target) for sample in samples.values() if sample.image is not None)
    return _ShardContent(size, stream.hash_to_end(), pairs, tuple(skipped), tuple(damaged))


def _add_file(sample: SampleFiles, name: str, kind: str, entry: TarEntry, stream: ForwardReader) -> None:
    if kind not in IMAGE_SUFFIXES and kind not in TARGETS:
        return
    if entry.fault:
        raise ImageError(entry.fault)
    if kind in IMAGE_SUFFIXES:
        if sample.image is not None:
            raise ImageError("a second image for the same sample")
        sample.image = _member(name, entry, _content(stream, entry))
        return
    target = parse_target(kind, _content(stream, entry)) if entry.size <= _MAX_TARGET_BYTES else None
    if sample.targets.setdefault(kind, target) != target:
        sample.targets[kind] = None
        raise ImageError(f"a second .{kind} for the same sample, with another target")


def _content(stream: ForwardReader, entry: TarEntry) -> bytes:
    stream.seek(entry.offset)
    return stream.read(entry.size)


def _member(name: str, entry: TarEntry, data: bytes) -> Member:
    channels, height, width = inspect_image(data)
    return Member(name, None, entry.offset, entry.size, content_digest(data), height, width, channels)


def _target_kind(folder: str, targets: Sequence[NamedTarget | None]) -> TargetKind:
    kinds: dict[type, TargetKind] = {str: "classification", tuple: "multilabel", float: "regression"}
    found = sorted({kinds[type(target)] for target in targets})
    if len(found) > 1:
        raise DataError(
            f"the shards of {folder!r} have targets of several kinds, {' and '.join(found)}: use only one of them"
        )
    return found[0] if found else "classification"


def _classes(targets: Sequence[NamedTarget | None]) -> tuple[str, ...]:
    names = {name for target in targets for name in names_in(target)}
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))
