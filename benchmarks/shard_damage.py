"""Damages shards at random, bits flipped and files cut short, and looks whether any of it is silent.

    python -m benchmarks.shard_damage [--turns 1000] [--json FILE]

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


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """Three times in four a flipped bit, else a cut."""
    if draw.randrange(4):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        return bytes(data)
    return whole[: draw.randrange(len(whole))]


def pictures() -> list[tuple[bytes, bytes, str]]:
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


def ours(root: Path, turns: int, draw: random.Random) -> dict[str, Counter[str]]:
    for number, (png, _, label) in enumerate(pictures()):
        path = root / "files" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    index = write_shards(*scan_source(root / "files"), root / "shards", size=2**24, seed=0)
    (shard,) = index.shards
    path, counted = root / "shards" / shard.name, Counter[str]()
    whole = path.read_bytes()
    for _ in range(turns):
        data = damaged(whole, draw)
        path.write_bytes(data)
        faults = list(verify(str(root / "shards"), [shard]))
        wrong = {
            place
            for place, one in enumerate(shard.members)
            if data[one.offset : one.offset + one.size] != whole[one.offset : one.offset + one.size]
        }
        reported = bool(faults) and set(faults[0].images or {}) == wrong
        counted["reported" if reported else "silent"] += 1
    place, of_index = root / "shards" / INDEX, Counter[str]()
    text = place.read_bytes()
    for _ in range(turns):
        try:
            of_index["harmless" if parse_index(damaged(text, draw), INDEX) == index else "silent"] += 1
        except DataError:
            of_index["reported"] += 1
    return {"a shard of ours": counted, "its index": of_index}


def meaning(index: ShardIndex, folder: Path) -> dict[str, tuple[bytes, str]]:
    """Of each image in it its pixels and its class."""
    labels = {
        member.name: index.classes[member.target]
        for shard in index.shards
        for member in shard.members
        if isinstance(member.target, int)
    }
    found = {}
    for rows in list_contents(str(folder), index).values():
        for name, where in rows:
            if isinstance(where, ByteRange):
                image = Image.open(io.BytesIO(where.read()))
                found[name] = (np.asarray(image).tobytes(), labels.get(name, ""))
    return found


def others(root: Path, turns: int, draw: random.Random, kind: int, image_kind: int) -> Counter[str]:
    folder = root / f"others-{kind}-{image_kind}"
    folder.mkdir()
    path, suffix = folder / "a.tar", ("png", "jpg")[image_kind]
    with tarfile.open(path, "w", format=kind) as tar:
        for number, (*images, label) in enumerate(pictures()):
            for name, data in ((f"{number}.{suffix}", images[image_kind]), (f"{number}.cls", label.encode())):
                info = tarfile.TarInfo(("x" * 120 if number % 10 == 0 else "") + name)  # some by a header of their own
                info.size = len(data)
                if kind == tarfile.USTAR_FORMAT:
                    info.name = name
                tar.addfile(info, io.BytesIO(data))
    whole, counted = path.read_bytes(), Counter[str]()
    right = meaning(scan_shards(str(folder), ["a.tar"]), folder)
    assert len(right) == IMAGES
    for _ in range(turns):
        data = damaged(whole, draw)
        path.write_bytes(data)
        try:
            index = scan_shards(str(folder), ["a.tar"])
        except DataError:
            counted["reported"] += 1
            continue
        found = meaning(index, folder)
        if found == right and not index.damaged:
            counted["harmless"] += 1
        elif index.damaged:
            counted["reported"] += 1
        else:
            counted[_silent(found, right)] += 1
    return counted


def _silent(found: dict[str, tuple[bytes, str]], right: dict[str, tuple[bytes, str]]) -> str:
    if len(found) < len(right) or any(name not in found for name in right):
        return "silent"
    changed = [name for name in right if found[name] != right[name]]
    if any(found[name][1] != right[name][1] for name in changed):
        return "label changed, which nothing can show"
    return "pixels changed, which the format does not show"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with TemporaryDirectory() as temporary:
        found = ours(Path(temporary), arguments.turns, draw)
        for name, kind in FORMATS.items():
            for image_kind, image_name in enumerate(("PNG", "JPEG")):
                share = arguments.turns // (2 * len(FORMATS)) + 1
                found[f"a shard of others, {name}, {image_name}"] = others(
                    Path(temporary), share, draw, kind, image_kind
                )
    steps: Callable[[str], int] = lambda name: sum(found[name].values())  # noqa: E731
    for name, counted in found.items():
        print(f"{name:32} {steps(name):6,} times damaged: {dict(counted)}")  # noqa: T201
    if arguments.json is not None:
        reported = {
            "about": describe_machine(torch.device("cpu")),
            "damage": {name: dict(one) for name, one in found.items()},
        }
        arguments.json.write_text(json.dumps(reported, indent=1) + "\n")
    if any(counted["silent"] for counted in found.values()):
        sys.exit("some damage was silent")


if __name__ == "__main__":
    main()
