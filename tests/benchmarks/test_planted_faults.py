from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.data.planted_faults import BLANK, CORRUPT, EXACT, NEAR, SWAPPED, Planted, plant, scores
from megavit.errors import DataError

pytestmark = pytest.mark.benchmarks


@pytest.fixture
def source(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 220), ("test", 50)):
        for name in ("cat", "dog"):
            folder = tmp_path / "source" / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                Image.fromarray(random.integers(0, 256, (6, 6), dtype=np.uint8)).save(folder / f"{place}.png")
    return tmp_path / "source"


def test_every_fault_is_planted_on_an_image_of_its_own(source: Path, tmp_path: Path) -> None:
    planted = plant(source, tmp_path / "out", 500, seed=0)
    near = [*planted.near["cropped"], *planted.near["brightness"]]
    assert (len(planted.exact), len(near), len(planted.swapped)) == (EXACT, NEAR, SWAPPED)
    assert (len(planted.corrupt), len(planted.blank)) == (CORRUPT, BLANK)
    touched = [one for pair in (*planted.exact, *near) for one in pair]
    touched += [*planted.swapped, *planted.corrupt, *planted.blank]
    assert len(set(touched)) == len(touched)
    assert all((tmp_path / "out" / name).is_file() for name in touched)
    one, other = planted.exact[0]
    assert (tmp_path / "out" / one).read_bytes() == (tmp_path / "out" / other).read_bytes()
    assert len(list(source.rglob("*.png"))) == 540  # which is left as it was


def test_too_few_images_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 400 are needed"):
        plant(source, tmp_path / "out", 100, seed=0)


def test_scores_count_what_was_found_missed_and_taken_for_a_fault() -> None:
    planted = Planted(
        exact=[("a", "b"), ("c", "d")],
        near={"cropped": [("e", "f")], "brightness": []},
        swapped=["g", "h"],
        corrupt=["i"],
        blank=["j"],
    )

    def finding(kind: str, *images: str, score: float | None = None) -> dict:
        return {"kind": kind, "images": list(images), "score": score}

    found = scores(
        planted,
        [
            finding("leak", "a", "b", score=1.0),
            finding("leak", "e", "x", "f", score=0.97),
            finding("duplicate", "y", "z", score=0.95),
            finding("label_error", "g", score=0.9999),
            finding("label_error", "k", score=0.9995),
            finding("possible_label_error", "h", score=0.99),
            finding("unreadable", "i"),
        ],
    )
    by_kind = {one.kind: (one.planted, one.found, one.missed, one.alarms) for one in found}
    assert by_kind["exact copy in train and test"] == (2, 1, 1, 0)
    assert by_kind["near copy, cropped"] == (1, 1, 0, None)
    assert by_kind["wrong label, probably wrong"] == (2, 1, 1, 1)
    assert by_kind["wrong label, probably wrong or in doubt"] == (2, 2, 0, 1)
    assert by_kind["cut short"] == (1, 1, 0, 0) and by_kind["one shade"] == (1, 0, 1, 0)
