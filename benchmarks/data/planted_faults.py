"""How many of 200 planted faults `megavit check` finds, and what else it takes for one.

    python benchmarks/data/planted_faults.py runs/fashion --images 6000

Takes a folder of train/CLASS/*.png and test/CLASS/*.png (benchmarks/data/fashion_mnist_folders.py writes one), copies
some of it to a folder of its own, and plants there: 50 files copied from train to test; 50 pictures put into test as
near copies (cropped by 2 to 6% at every side, or 15 to 25% brighter or darker, and each saved as JPEG); 60 images
moved to another class; 20 files cut short; 20 pictures of one shade. What is found beyond these is told as an alarm,
though it may be right: Fashion-MNIST has wrong labels and copies of its own.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table

from megavit.errors import DataError, MegavitError
from megavit.runtime.storage import write_file, writing

EXACT, NEAR, SWAPPED, CORRUPT, BLANK = 50, 50, 60, 20, 20
TEST_SHARE = 1 / 6


@dataclass
class Planted:
    """What was done: names relative to the folder, or pairs of an original and its copy."""

    exact: list[tuple[str, str]] = field(default_factory=list)
    near: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {"cropped": [], "brightness": []})
    swapped: list[str] = field(default_factory=list)
    truth: dict[str, str] = field(default_factory=dict)  # the class of each that was moved to another
    corrupt: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Score:
    """Of one kind of fault; `alarms` are findings of this kind that were not planted, None where not counted."""

    kind: str
    planted: int
    found: int
    alarms: int | None

    @property
    def missed(self) -> int:
        return self.planted - self.found


def plant(source: Path, folder: Path, count: int, seed: int, *, part: float = 1.0) -> Planted:
    """Copy about `count` images of `source` to `folder`, and plant the faults among them, or a part of their number.

    Raises:
        DataError: where `source` has too few images, or no train and test.
    """
    rng = random.Random(seed)
    chosen = {
        split: _copy_images(source, folder, split, amount, rng)
        for split, amount in (("train", round(count * (1 - TEST_SHARE))), ("test", round(count * TEST_SHARE)))
    }
    exact, near, swapped, corrupt, blank = (round(part * number) for number in (EXACT, NEAR, SWAPPED, CORRUPT, BLANK))
    need = exact + near + swapped + corrupt + blank
    if len(chosen["train"]) < 2 * need:
        raise DataError(f"{source} has {len(chosen['train'])} training images, but at least {2 * need} are needed")
    classes = sorted({name.split("/")[1] for name in chosen["train"]})
    unused = iter(rng.sample(chosen["train"], need))
    planted = Planted()
    for number in range(exact):
        name = next(unused)
        copy = f"test/{name.split('/')[1]}/exact{number}.png"
        shutil.copyfile(folder / name, folder / copy)
        planted.exact.append((name, copy))
    for number in range(near):
        name, alteration = next(unused), "cropped" if number % 2 else "brightness"
        copy = f"test/{name.split('/')[1]}/near{number}.jpg"
        _alter(Image.open(folder / name), alteration, rng).save(folder / copy, quality=rng.randint(70, 90))
        planted.near[alteration].append((name, copy))
    for number in range(swapped):
        name = next(unused)
        wrong = rng.choice([one for one in classes if one != name.split("/")[1]])
        moved = f"train/{wrong}/swapped{number}.png"
        (folder / name).rename(folder / moved)
        planted.swapped.append(moved)
        planted.truth[moved] = name.split("/")[1]
    for _ in range(corrupt):
        name = next(unused)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: rng.randrange(len(data) // 4, len(data) * 3 // 4)])
        planted.corrupt.append(name)
    for _ in range(blank):
        name = next(unused)
        with Image.open(folder / name) as image:
            blank = Image.new(image.mode, image.size, rng.choice([0, 128, 255, rng.randrange(256)]))
        blank.save(folder / name)
        planted.blank.append(name)
    return planted


def _copy_images(source: Path, folder: Path, split: str, count: int, rng: random.Random) -> list[str]:
    names = sorted(path.relative_to(source).as_posix() for path in (source / split).glob("*/*.png"))
    if not names:
        raise DataError(
            f"{source} has no {split}/CLASS/*.png; benchmarks/data/fashion_mnist_folders.py writes such a folder"
        )
    chosen = sorted(rng.sample(names, min(count, len(names))))
    for name in chosen:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    return chosen


def _alter(image: Image.Image, alteration: str, rng: random.Random) -> Image.Image:
    width, height = image.size
    if alteration == "cropped":
        left, top, right, bottom = (rng.uniform(0.02, 0.06) for _ in range(4))
        box = (left * width, top * height, width - right * width, height - bottom * height)
        return image.resize(image.size, Image.Resampling.BICUBIC, box)
    return ImageEnhance.Brightness(image).enhance(rng.choice([rng.uniform(0.75, 0.85), rng.uniform(1.15, 1.25)]))


def scores(planted: Planted, findings: Sequence[dict[str, Any]]) -> list[Score]:
    """How each kind of fault fared, by what `megavit check --json` found."""
    copies = [one for one in findings if one["kind"] in ("leak", "duplicate")]
    exact = [set(one["images"]) for one in copies if one["score"] == 1]
    near = [set(one["images"]) for one in copies if one["score"] < 1]
    every = exact + near

    def pairs_in(pairs: Sequence[tuple[str, str]]) -> int:
        return sum(any(set(pair) <= group for group in every) for pair in pairs)

    def alarms(groups: Sequence[set[str]], pairs: Sequence[tuple[str, str]]) -> int:
        return sum(not any(set(pair) <= group for pair in pairs) for group in groups)

    def named(*kinds: str) -> list[str]:
        return [one["images"][0] for one in findings if one["kind"] in kinds]

    pairs = [*planted.exact, *planted.near["cropped"], *planted.near["brightness"]]
    probable, ranked = named("label_error"), named("label_error", "possible_label_error")
    swapped = set(planted.swapped)

    def single(kind: str, planted_names: Sequence[str], findings_of_kind: Sequence[str]) -> Score:
        return Score(
            kind,
            len(planted_names),
            len(set(planted_names) & set(findings_of_kind)),
            len(set(findings_of_kind) - set(planted_names)),
        )

    return [
        Score("exact copy in train and test", len(planted.exact), pairs_in(planted.exact), alarms(exact, pairs)),
        *(
            Score(f"near copy, {alteration}", len(pairs_of_kind), pairs_in(pairs_of_kind), None)
            for alteration, pairs_of_kind in planted.near.items()
        ),
        Score("near copy", len(pairs) - len(planted.exact), pairs_in(pairs[len(planted.exact) :]), alarms(near, pairs)),
        single("wrong label, probably wrong", planted.swapped, probable),
        single("wrong label, probably wrong or in doubt", planted.swapped, ranked),
        Score(f"wrong label, among the first {SWAPPED}", SWAPPED, len(swapped & set(ranked[:SWAPPED])), None),
        single("cut short", planted.corrupt, named("unreadable")),
        single("one shade", planted.blank, named("blank")),
    ]


def run_check(folder: Path, flags: Sequence[str]) -> dict[str, Any]:
    """What the command finds.

    Raises:
        DataError: with its message, where it did not answer.
    """
    command = [sys.executable, "-m", "megavit", "check", str(folder), *flags, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    result = json.loads(done.stdout)
    if "error" in result:
        raise DataError(result["error"]["message"])
    return result


def _flags(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.bundle is not None:
        yield from ("--bundle", arguments.bundle)
    if arguments.minutes is not None:
        yield from ("--minutes", str(arguments.minutes))
    if arguments.out is not None:
        yield from ("--out", arguments.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="folder with train/CLASS/*.png and test/CLASS/*.png")
    parser.add_argument("--images", type=int, default=6_000, help="number of images to copy")
    parser.add_argument("--bundle", help="for megavit check")
    parser.add_argument("--minutes", type=float, help="for megavit check")
    parser.add_argument("--out", help="for megavit check: new folder for its table and page")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="new file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        planted = plant(arguments.source, Path(name), arguments.images, arguments.seed)
        result = run_check(Path(name), list(_flags(arguments)))
    found = scores(planted, result["findings"])
    table = Table("fault", "planted", "found", "missed", "false alarms", box=None)
    for one in found:
        alarms = "" if one.alarms is None else str(one.alarms)
        table.add_row(one.kind, str(one.planted), str(one.found), str(one.missed), alarms)
    Console().print(table)
    if arguments.json is not None:
        figures = {
            "images": result["images"],
            "seed": arguments.seed,
            "labels": result["labels"],
            "scores": [asdict(one) | {"missed": one.missed} for one in found],
        }
        with writing("the figures", arguments.json):
            write_file(arguments.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except MegavitError as error:
        sys.exit(f"planted_faults: {error}")
