"""How many strokes it takes to correct planted faults on the page of `megavit label --correct`.

    python -m benchmarks.labeling.corrections photos/clothing-png --images 400 --part 0.25

Takes a folder of train/CLASS/*.png and test/CLASS/*.png, and plants some of the faults of
benchmarks/data/planted_faults.py in a copy. An oracle that knows them then goes through all that the check doubts, in a
headless Chromium, by keys: Enter where the label that is suggested is right, a class where another one is, X for
copies, blank and unreadable images, and K where there is nothing wrong. A fault is found if one of its images is shown,
and corrected if it then has its class, or is one of those that are left out.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.data.planted_faults import Planted, plant
from benchmarks.labeling.oracle import KEYS, open_page, serve_folder
from megavit.data.sources.label_log import LABEL_LOG, Decision, parse_label_log
from megavit.errors import MegavitError


def read_decisions(folder: Path) -> tuple[Decision, ...]:
    return parse_label_log((folder / LABEL_LOG).read_bytes(), LABEL_LOG).decisions


def correct(folder: Path, planted: Planted) -> dict[str, Any]:
    """Correct the labels by keys, and return how many of each."""
    classes = sorted(path.name for path in (folder / "train").iterdir())
    partners: dict[str, set[str]] = {}
    for name, copy in (*planted.exact, *planted.near["cropped"], *planted.near["brightness"]):
        partners.setdefault(name, set()).add(copy)
        partners.setdefault(copy, set()).add(name)
    useless, excluded, keys = {*planted.corrupt, *planted.blank}, set[str](), Counter[str]()
    shown = set[str]()
    began = time.perf_counter()
    with serve_folder(folder, "--correct") as (_, url), open_page(url) as page:
        page.wait_for_function("() => document.querySelector('#filter').value === 'check'")
        checked = time.perf_counter()
        doubted = page.evaluate(
            "() => Number(document.querySelector('#filter option[value=check]').text.match(/[0-9]+/)[0])"
        )
        buttons = page.locator("#classes bdi").all_inner_texts()
        assert set(buttons) <= set(classes)
        page.keyboard.press("o")
        for _ in range(doubted):
            name = page.locator("#picture").get_attribute("alt") or ""
            suggested = page.locator("#picture-label").inner_text().partition(", or ")[2].partition("?")[0]
            truth = planted.truth.get(name)
            shown.add(name)
            if name in useless or (name in partners and not partners[name] <= excluded):
                key = "x"
                excluded.add(name)
            elif truth is None:
                key = "k"
            else:
                key = "Enter" if truth == suggested else KEYS[buttons.index(truth)]
            keys["class" if key in KEYS else key] += 1
            page.keyboard.press(key)
            page.wait_for_function(
                "(name) => document.querySelector('#picture').alt !== name "
                "|| document.querySelector('#announcements').textContent.includes('last one')",
                arg=name,
            )
        page.wait_for_function("() => document.querySelector('#filter option[value=check]').text.includes('(0)')")
        while len({one.stroke for one in read_decisions(folder)}) < 1 + doubted:  # 1: the labels that there were
            time.sleep(0.1)
    corrected = time.perf_counter()
    last = {one.path: one for one in read_decisions(folder)}
    copies = {(name, other) for name, others in partners.items() for other in others if name < other}
    kinds = {
        "wrong labels": [(name,) for name in planted.truth],
        "copies": sorted(copies),
        "blank": [(name,) for name in planted.blank],
        "cut short": [(name,) for name in planted.corrupt],
    }

    def is_corrected(names: tuple[str, ...]) -> bool:
        if names[0] in planted.truth:
            return last[names[0]].labels == (planted.truth[names[0]],)
        return any(last[name].status == "excluded" for name in names)

    return {
        "images": len(last),
        "faults": {
            kind: {
                "planted": len(faults),
                "found": sum(not shown.isdisjoint(names) for names in faults),
                "corrected": sum(map(is_corrected, faults)),
            }
            for kind, faults in kinds.items()
        },
        "doubted": doubted,
        "strokes": keys.total(),
        "keys": dict(keys),
        "check_seconds": checked - began,
        "correct_seconds": corrected - checked,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="folder with train/CLASS/*.png and test/CLASS/*.png")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--part", type=float, default=0.25, help="of the numbers of faults in planted_faults.py")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name)
        planted = plant(arguments.source, folder, arguments.images, arguments.seed, part=arguments.part)
        sys.stdout.write(json.dumps(correct(folder, planted), indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except MegavitError as error:
        sys.exit(f"labeling_corrections: {error}")
