"""megavit search and convert with a model that has a text tower."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megavit.cli.app import run
from tests.helpers.two_towers import save_two_towers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of photos beside a model."""
    save_two_towers(tmp_path / "clip", "clip")
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def test_images_are_found_by_a_text_and_classified_by_the_names_of_classes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, clip = str(folder / "photos"), str(folder / "clip")
    assert run(["search", clip, "--text", "red shoe", "--among", photos, "--top", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == "red shoe" and len(found["matches"]) == 2
    assert run(["convert", clip, "--classes", "cat, dog", "--out", str(folder / "bundle")]) == 0
    capsys.readouterr()
    assert run(["predict", str(folder / "bundle"), photos, "--json"]) == 0
    labels = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    assert len(labels) == 3 and set(labels) <= {"cat", "dog"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "clip"], "say what to search by: images, or a text with --text"),
        (["search", "clip", "a.png", "--text", "cat"], "say what to search by: images, or a text with --text"),
        (["search", "clip", "--text", "cat"], "say with --among where to search"),
        (["search", "photos", "--text", "cat", "--among", "photos"], "has no text tower"),
        (["convert", "photos", "--classes", "cat,dog", "--out", "bundle"], "has no text tower"),
        (["convert", "clip", "--classes", "cat,dog", "--to", "timm", "--out", "b"], "--classes is only for bundles"),
    ],
)
def test_what_cannot_be_searched_by_text_is_said(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert run(arguments) == 2
    assert said in " ".join(capsys.readouterr().err.split())
