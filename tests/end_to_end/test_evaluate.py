"""`megavit evaluate` with a second bundle, groups, corruptions and a report, as a person runs it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from megavit.cli.app import run as command
from megavit.config.target import Target
from megavit.data.dataset import read_samples
from megavit.predict.predictor import load
from megavit.weights.bundle.bundle import SAMPLES
from tests.helpers.bundles import LABELS, make_bundle, make_model

COUNT = 48


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of pictures with a camera each, and bundles of other weights; b has its classes in another order."""
    folder = tmp_path_factory.mktemp("evaluate")
    random = np.random.default_rng(0)
    lines = ["path,label,camera,many"]
    for i in range(COUNT):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{LABELS[i % 3]},{'north' if i % 2 else 'south'},{i}")
    (folder / "t.csv").write_text("\n".join(lines))
    for name, labels, seed in (("a", LABELS, 0), ("b", ("newt", "cat", "dog"), 5), ("c", ("cat", "dog", "owl"), 0)):
        make_bundle(folder / name, make_model(3, seed=seed), labels)
    (folder / "photos" / "cat").mkdir(parents=True)
    (folder / "photos" / "dog").mkdir()
    for i in range(4):
        (folder / "photos" / LABELS[i % 2] / f"{i}.png").write_bytes((folder / f"{i}.png").read_bytes())
    return folder


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    code = command(["evaluate", *map(str, arguments), "--json", "--device", "cpu"])
    reported = json.loads(capsys.readouterr().out)
    assert code == 0, reported
    return reported


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert command(["evaluate", *map(str, arguments), "--device", "cpu"]) == 2
    return capsys.readouterr().err


def test_two_bundles_are_compared_image_by_image(place, tmp_path, capsys):
    reported = evaluated(capsys, place / "a", place / "t.csv", "--against", place / "b", "--out", tmp_path / "o.csv")
    said = {name: {} for name in "ab"}
    for name in "ab":
        predictor = load(place / name, device="cpu")
        said[name] = {f"{i}.png": predictor.predict(place / f"{i}.png").label for i in range(COUNT)}
    truth = {f"{i}.png": LABELS[i % 3] for i in range(COUNT)}
    comparison = reported["comparison"]
    right = {name: {path for path in truth if said[name][path] == truth[path]} for name in "ab"}
    assert comparison["only_a"] == len(right["a"] - right["b"])
    assert comparison["only_b"] == len(right["b"] - right["a"])
    assert comparison["differences"][0]["difference"]["value"] == pytest.approx(
        (len(right["a"]) - len(right["b"])) / COUNT
    )
    with (tmp_path / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {path for path in truth if said["a"][path] != said["b"][path]}
    assert comparison["disagreements"] == len(rows) > 0
    for row in rows:
        path = row["path"]
        assert (row["truth"], row["prediction_a"], row["prediction_b"]) == (
            truth[path],
            said["a"][path],
            said["b"][path],
        )


def test_images_that_either_bundle_learned_from_are_left_out(place, tmp_path, capsys):
    rows = {row.name: row for row in read_samples(place / "a" / SAMPLES)}
    assert not rows
    from megavit.config.recipe import DataRecipe
    from megavit.data.load import load_data

    samples = load_data(place / "t.csv", DataRecipe(val=0, test=0)).samples
    make_bundle(tmp_path / "first", make_model(3), samples=samples[:10])
    make_bundle(tmp_path / "second", make_model(3, seed=2), samples=samples[5:20])
    reported = evaluated(capsys, tmp_path / "first", place / "t.csv", "--against", tmp_path / "second")
    assert reported["data"]["excluded_as_seen_in_training"] == 20
    assert reported["comparison"]["images"] == reported["metrics"]["images"] == COUNT - 20
    command(["evaluate", str(tmp_path / "first"), str(place / "t.csv"), "--against", str(tmp_path / "second")])
    assert "20 images left out: one of the models was trained or selected on them" in capsys.readouterr().err


def test_groups_and_corruptions_and_the_report_come_together(place, tmp_path, capsys):
    page = tmp_path / "page.html"
    options = ["--group-by", "camera", "--corruptions", "--report", str(page), "--against", str(place / "b")]
    assert command(["evaluate", str(place / "a"), str(place / "t.csv"), *options]) == 0
    out = capsys.readouterr().out
    for part in ("By camera", "north", "south", "McNemar", "JPEG", "corrupted on average", "only A"):
        assert part in out, part
    text = page.read_text()
    for part in (
        "By <bdi>camera</bdi>",
        "Robustness to corruptions",
        "Most frequent mistakes",
        "McNemar",
        "data:image/png",
    ):
        assert part in text, part
    reported = evaluated(capsys, place / "a", place / "t.csv", "--group-by", "camera", "--corruptions")
    assert {one["value"] for one in reported["subgroups"]["groups"]} == {"north", "south"}
    assert sum(one["images"] for one in reported["subgroups"]["groups"]) == COUNT
    assert reported["robustness"]["images"] == COUNT
    assert "comparison" not in reported


def test_labels_and_scores_are_compared_too(place, tmp_path, capsys):
    lines = [f"{i}.png,{LABELS[i % 3]}|{LABELS[i % 2]},{'north' if i % 2 else 'south'}" for i in range(COUNT)]
    (place / "labels.csv").write_text("\n".join(["path,labels,camera", *lines]))
    (place / "score.csv").write_text("\n".join(["path,score", *(f"{i}.png,{i % 7}" for i in range(COUNT))]))
    several = Target(kind="multilabel", thresholds=[0.5] * 3)
    for name, kind, classes in (("l", several, LABELS), ("s", Target(kind="regression"), ())):
        for seed in (0, 1):
            make_bundle(
                tmp_path / f"{name}{seed}", make_model(len(classes) or 1, seed=seed), classes, target=kind, metrics={}
            )
    reported = evaluated(
        capsys, tmp_path / "l0", place / "labels.csv", "--against", tmp_path / "l1", "--group-by", "camera"
    )
    names = [one["metric"] for one in reported["comparison"]["differences"]]
    assert names == ["mean average precision", "all labels right"]
    assert reported["subgroups"]["metric"] == "mean average precision"
    reported = evaluated(
        capsys, tmp_path / "s0", place / "score.csv", "--against", tmp_path / "s1", "--out", tmp_path / "s.jsonl"
    )
    assert reported["comparison"]["differences"][0]["metric"] == "mean absolute error"
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == reported["comparison"]["disagreements"] == COUNT


def test_mistakes_are_told_before_anything_is_measured(place, tmp_path, capsys):
    a, table = place / "a", place / "t.csv"
    (tmp_path / "taken.html").write_text("mine")
    assert "pass the second one with --against" in refused(capsys, a, table, "--out", tmp_path / "o.csv")
    assert "c has 'owl'" in refused(capsys, a, table, "--against", place / "c")
    assert "already exists" in refused(capsys, a, table, "--report", tmp_path / "taken.html")
    assert "as .html" in refused(capsys, a, table, "--report", tmp_path / "page.pdf")
    assert ".csv or .jsonl" in refused(capsys, a, table, "--against", place / "b", "--out", tmp_path / "o.xls")
    assert "no column 'lens'; its other columns are 'camera', 'many'" in refused(capsys, a, table, "--group-by", "lens")
    assert "--group-by camera needs a table" in refused(capsys, a, place / "photos", "--group-by", "camera")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"]
