"""Store the byte range of every image in shards in an index, `megavit-shards.json`."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, get_args

from megavit.config.serialization import parse_json
from megavit.config.target import TargetKind
from megavit.data.byte_range import ByteRange
from megavit.data.decode.limits import MAX_BYTES
from megavit.errors import DataError

INDEX = "megavit-shards.json"
FORMAT = 1

_LABELS = (".cls", ".json")
_SPLITS = ("train", "val", "test", None)
_COLUMNS = ("names", "targets", "offsets", "sizes", "digests", "heights", "widths", "channels")
_SHA256, _DIGEST = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{16}")

Target = int | tuple[int, ...] | float | None


@dataclass(frozen=True, slots=True)
class Member:
    """An image in a shard.

    Attributes:
        name: name of the image before it was written into the shard.
        target: class index, sorted tuple of label indices, or score; None if unlabeled.
        offset, size: byte range of its file in the shard.
        digest: digest of these bytes (`megavit.data.byte_range.content_digest`).
        height, width: size in pixels, upright.
        channels: number of channels, as in `megavit.data.dataset.Sample`.
    """

    name: str
    target: Target
    offset: int
    size: int
    digest: str
    height: int
    width: int
    channels: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A tar file of images.

    Attributes:
        name: file name, in the folder of the index.
        size: size in bytes.
        sha256: SHA-256 of the file.
        split: "train", "val" or "test"; None if the data does not define it.
        members: images in the order of the file.
    """

    name: str
    size: int
    sha256: str
    split: str | None
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The index of all shards of a data set.

    Attributes:
        target: kind of target.
        classes: names of the classes or labels, in the order of their indices; empty for regression.
        shards: shards in the order of their names.
        skipped: (name, reason) of files left out that are not damaged.
        damaged: (name, reason) of unusable content, named SHARD or SHARD/FILE.
    """

    target: TargetKind
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    damaged: tuple[tuple[str, str], ...] = ()

    @property
    def images(self) -> int:
        return sum(len(shard.members) for shard in self.shards)

    def to_json(self) -> str:
        """Return the index as JSON, including its fingerprint."""
        table = {
            "format": FORMAT,
            "images": self.images,
            "target": self.target,
            "classes": list(self.classes),
            "shards": [_to_dict(shard) for shard in self.shards],
            "skipped": [list(row) for row in self.skipped],
            "damaged": [list(row) for row in self.damaged],
        }
        return json.dumps({"fingerprint": _fingerprint(table)} | table, separators=(",", ":"))

    def fingerprint(self) -> str:
        """Return 32 hex digits that change with any shard's bytes and anything in the index."""
        return json.loads(self.to_json())["fingerprint"]


@dataclass(frozen=True, slots=True)
class Damaged:
    """An image that cannot be read, and the reason."""

    reason: str


def list_contents(folder: str, index: ShardIndex) -> dict[str, list[tuple[str, ByteRange | Damaged]]]:
    """Return, by shard, the (name, location) of each image, followed by what is damaged."""
    found: dict[str, list[tuple[str, ByteRange | Damaged]]] = {
        shard.name: [(member.name, location) for member, location in locate_members(folder, shard)]
        for shard in index.shards
    }
    for name, reason in index.damaged:
        if not name.lower().endswith(_LABELS):  # listed with the image that it belongs to
            found.setdefault(name.partition("/")[0], []).append((name, Damaged(reason)))
    return {shard: found[shard] for shard in sorted(found) if found[shard]}


def locate_members(folder: str, shard: Shard) -> Iterator[tuple[Member, ByteRange]]:
    """Yield each image of a shard in `folder`, a path or URL, and its byte range."""
    file = join_path(folder, shard.name)
    for member in shard.members:
        yield member, ByteRange(file, member.offset, member.size, member.digest)


def join_path(folder: str, name: str) -> str:
    """Return the path or URL of a file in a folder given by path or URL."""
    return f"{folder.rstrip('/')}/{name}" if folder else name


def is_tar(name: str) -> bool:
    """Return whether a file is a shard, by its name."""
    return name.lower().endswith(".tar")


def is_shard_name(name: str) -> bool:
    """Return whether a name is that of a shard in the index's own folder, as an index is untrusted."""
    return is_tar(name) and not name.startswith(".") and not re.search(r"[/\\\0]", name)


def is_file_name(name: object) -> bool:
    """Return whether a value is a possible file name."""
    try:
        return isinstance(name, str) and 0 not in name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def parse_index(text: str | bytes, location: str) -> ShardIndex:
    """Parse and check an untrusted index, or raise a DataError that names `location` and what is invalid."""
    table = parse_json(text, location, DataError)
    try:
        _check(table.get("format") == FORMAT, f"format {FORMAT}", table.get("format"))
        stored = table.pop("fingerprint", None)
        _check(stored == _fingerprint(table), "the fingerprint of its content", stored)
        target, classes = table["target"], _strings(table["classes"])
        _check(target in get_args(TargetKind), "a kind of target", target)
        shards = tuple(_shard(row, target, len(classes)) for row in table["shards"])
        names = [shard.name for shard in shards]
        _check(names == sorted(set(names)), "shards in the order of their names", names[:5])
        images = [member.name for shard in shards for member in shard.members]
        _check(len(set(images)) == len(images), "a unique name for each image", "duplicates")
        skipped, damaged = (
            tuple((name, reason) for name, reason in map(_strings, table[key])) for key in ("skipped", "damaged")
        )
        for name, _ in damaged:
            _check(is_shard_name(name.partition("/")[0]), "a damaged entry that begins with a shard's name", name)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error or type(error).__name__
        raise DataError(
            f"{location} is damaged: {reason}; restore it, or remove it to have the shards indexed "
            "again, if they contain the names of their classes"
        ) from None
    return ShardIndex(target, classes, shards, skipped, damaged)


def _shard(row: dict[str, Any], target: str, classes: int) -> Shard:
    name, size, split = row["name"], row["bytes"], row["split"]
    _check(isinstance(name, str) and is_shard_name(name), "a shard's name", name)
    _check(_is_int(size) and size >= 0, "a shard's size", size)
    _check(_is_hex(row["sha256"], _SHA256), "a SHA-256", row["sha256"])
    _check(split in _SPLITS, "a split", split)
    columns = [row[column] for column in _COLUMNS]
    _check(len({len(column) for column in columns}) == 1, "columns of one length", [len(column) for column in columns])
    return Shard(
        name,
        size,
        row["sha256"],
        split,
        tuple(_member(values, size, target, classes) for values in zip(*columns, strict=True)),
    )


def _member(values: Sequence[Any], shard_size: int, target: str, classes: int) -> Member:
    name, stored, offset, size, digest, height, width, channels = values
    _check(is_file_name(name), "a valid file name", name)
    _check(_is_int(offset) and _is_int(size) and offset >= 0 and 0 < size <= MAX_BYTES, "a byte range", (offset, size))
    _check(offset + size <= shard_size, f"a byte range within {shard_size:,} bytes", (offset, size))
    _check(_is_hex(digest, _DIGEST), "a digest", digest)
    _check(all(_is_int(side) and side > 0 for side in (height, width, channels)), "a size", (height, width, channels))
    return Member(name, _target(stored, target, classes), offset, size, digest, height, width, channels)


def _target(stored: Any, target: str, classes: int) -> Target:
    if stored is None:
        return None
    if target == "regression":
        _check(isinstance(stored, int | float) and not isinstance(stored, bool), "a score", stored)
        return float(stored)
    labels = stored if target == "multilabel" else [stored]
    _check(all(_is_int(label) and 0 <= label < classes for label in labels), f"one of {classes} classes", stored)
    return tuple(sorted(set(stored))) if target == "multilabel" else stored


def _to_dict(shard: Shard) -> dict[str, Any]:
    columns = {
        column: [getattr(member, member_field.name) for member in shard.members]
        for column, member_field in zip(_COLUMNS, fields(Member), strict=True)
    }
    return {"name": shard.name, "bytes": shard.size, "sha256": shard.sha256, "split": shard.split} | columns


def _fingerprint(table: dict[str, Any]) -> str:
    return blake2b(json.dumps(table, separators=(",", ":"), sort_keys=True).encode("ascii"), digest_size=16).hexdigest()


def _strings(values: Any) -> tuple[str, ...]:
    _check(isinstance(values, list) and all(isinstance(value, str) for value in values), "names", values)
    return tuple(values)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_hex(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _check(condition: bool, expected: str, value: object) -> None:
    if not condition:
        raise ValueError(f"expected {expected}, got {value!r:.200}")
