"""Damages shards at random, bits flipped and files cut short, and looks whether any of it is silent.

    python -m benchmarks.data.shard_damage [--turns 1000] [--json FILE]

Three kinds of files, each damaged anew in every turn: a shard of ours, with its index; the index itself; and a shard of
others, that has no index and no digests, written as POSIX, GNU or pax tar of PNG and JPEG files. "reported" is damage
that was named, "harmless" left every image and label what it was; "silent" is neither, and must not be. What a shard of
others loses in its images before they were ever indexed only their own format can show: PNG has check sums, JPEG none,
and those are counted by themselves.
"""

import argparse
import io
import json
import random
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from megavit.bench.run import describe_machine
from megavit.data.byte_range import ByteRange
from megavit.data.load import scan_source
from megavit.data.shards.index import INDEX, ShardIndex, list_contents, parse_index
from megavit.data.shards.scan import scan_shards
from megavit.data.shards.verify import verify
from megavit.data.shards.write import write_shards
from megavit.errors import DataError

IMAGES = 40
FORMATS = {"POSIX": tarfile.USTAR_FORMAT, "GNU": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def damage(original: bytes, rng: random.Random) -> bytes:
    """Three times in four a flipped bit, else a cut."""
    if rng.randrange(4):
        data = bytearray(original)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data)
    return original[: rng.randrange(len(original))]


def make_images() -> list[tuple[bytes, bytes, str]]:
    """PNG, JPEG and class of some digits."""
    images, labels = load_digits(return_X_y=True)
    found = []
    for pixels, label in zip(images[:IMAGES], labels[:IMAGES], strict=True):
        image = Image.fromarray((pixels.reshape(8, 8) * 255 / 16).round().astype("uint8")).resize((32, 32))
        files = []
        for kind in ("PNG", "JPEG"):
            file = io.BytesIO()
            image.save(file, kind)
            files.append(file.getvalue())
        found.append((files[0], files[1], str(label)))
    return found


def damage_our_shard(root: Path, turns: int, rng: random.Random) -> dict[str, Counter[str]]:
    for number, (png, _, label) in enumerate(make_images()):
        path = root / "files" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    index = write_shards(*scan_source(root / "files"), root / "shards", size=2**24, seed=0)
    (shard,) = index.shards
    path, outcomes = root / "shards" / shard.name, Counter[str]()
    original = path.read_bytes()
    for _ in range(turns):
        data = damage(original, rng)
        path.write_bytes(data)
        faults = list(verify(str(root / "shards"), [shard]))
        damaged_members = {
            position
            for position, one in enumerate(shard.members)
            if data[one.offset : one.offset + one.size] != original[one.offset : one.offset + one.size]
        }
        reported = bool(faults) and set(faults[0].images or {}) == damaged_members
        outcomes["reported" if reported else "silent"] += 1
    index_path, index_outcomes = root / "shards" / INDEX, Counter[str]()
    text = index_path.read_bytes()
    for _ in range(turns):
        try:
            index_outcomes["harmless" if parse_index(damage(text, rng), INDEX) == index else "silent"] += 1
        except DataError:
            index_outcomes["reported"] += 1
    return {"a shard of ours": outcomes, "its index": index_outcomes}


def read_contents(index: ShardIndex, folder: Path) -> dict[str, tuple[bytes, str]]:
    """Of each image in it its pixels and its class."""
    labels = {
        member.name: index.classes[member.target]
        for shard in index.shards
        for member in shard.members
        if isinstance(member.target, int)
    }
    found = {}
    for rows in list_contents(str(folder), index).values():
        for name, location in rows:
            if isinstance(location, ByteRange):
                image = Image.open(io.BytesIO(location.read()))
                found[name] = (np.asarray(image).tobytes(), labels.get(name, ""))
    return found


def damage_foreign_shard(root: Path, turns: int, rng: random.Random, kind: int, image_kind: int) -> Counter[str]:
    folder = root / f"others-{kind}-{image_kind}"
    folder.mkdir()
    path, suffix = folder / "a.tar", ("png", "jpg")[image_kind]
    with tarfile.open(path, "w", format=kind) as tar:
        for number, (*images, label) in enumerate(make_images()):
            for name, data in ((f"{number}.{suffix}", images[image_kind]), (f"{number}.cls", label.encode())):
                info = tarfile.TarInfo(("x" * 120 if number % 10 == 0 else "") + name)  # some need an extended header
                info.size = len(data)
                if kind == tarfile.USTAR_FORMAT:
                    info.name = name
                tar.addfile(info, io.BytesIO(data))
    original, outcomes = path.read_bytes(), Counter[str]()
    expected = read_contents(scan_shards(str(folder), ["a.tar"]), folder)
    assert len(expected) == IMAGES
    for _ in range(turns):
        data = damage(original, rng)
        path.write_bytes(data)
        try:
            index = scan_shards(str(folder), ["a.tar"])
        except DataError:
            outcomes["reported"] += 1
            continue
        found = read_contents(index, folder)
        if found == expected and not index.damaged:
            outcomes["harmless"] += 1
        elif index.damaged:
            outcomes["reported"] += 1
        else:
            outcomes[_silent(found, expected)] += 1
    return outcomes


def _silent(found: dict[str, tuple[bytes, str]], expected: dict[str, tuple[bytes, str]]) -> str:
    if len(found) < len(expected) or any(name not in found for name in expected):
        return "silent"
    changed = [name for name in expected if found[name] != expected[name]]
    if any(found[name][1] != expected[name][1] for name in changed):
        return "label changed, which nothing can show"
    return "pixels changed, which the format does not show"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with TemporaryDirectory() as temporary:
        found = damage_our_shard(Path(temporary), arguments.turns, rng)
        for name, kind in FORMATS.items():
            for image_kind, image_name in enumerate(("PNG", "JPEG")):
                share = arguments.turns // (2 * len(FORMATS)) + 1
                found[f"a shard of others, {name}, {image_name}"] = damage_foreign_shard(
                    Path(temporary), share, rng, kind, image_kind
                )
    total: Callable[[str], int] = lambda name: sum(found[name].values())  # noqa: E731
    for name, outcomes in found.items():
        print(f"{name:32} {total(name):6,} times damaged: {dict(outcomes)}")  # noqa: T201
    if arguments.json is not None:
        reported = {
            "about": describe_machine(torch.device("cpu")),
            "damage": {name: dict(one) for name, one in found.items()},
        }
        arguments.json.write_text(json.dumps(reported, indent=1) + "\n")
    if any(outcomes["silent"] for outcomes in found.values()):
        sys.exit("some damage was silent")


if __name__ == "__main__":
    main()
