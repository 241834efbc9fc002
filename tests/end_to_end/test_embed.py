import csv
import json

import numpy as np
import torch

import megavit as package
from tests.end_to_end.conftest import PER_CLASS
from tests.helpers.command_line import run_megavit


def test_all_three_ways_give_the_same_vectors_and_every_image_that_failed(run, digits, tmp_path):
    folder = digits / "digit 1"
    for name in ("a.npz", "a.csv"):
        done = run_megavit("embed", run, folder, "--out", name, cwd=tmp_path)
        assert done.returncode == 2 and f"1 of {PER_CLASS + 1} images could not be read" in done.stderr
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["path"].shape == (PER_CLASS,) and arrays["embedding"].dtype == np.float32
    assert arrays["failed"].tolist() == [str(folder / "empty.png")] and arrays["error"].tolist() == [
        "the file is empty"
    ]
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    done = run_megavit("embed", run, folder, "--json", cwd=tmp_path)
    lines = {line["path"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert rows[str(folder / "empty.png")]["error"] == lines[str(folder / "empty.png")]["error"] == "the file is empty"
    for path, vector in zip(arrays["path"].tolist(), arrays["embedding"], strict=True):
        np.testing.assert_array_equal(
            np.array([rows[path][str(i)] for i in range(len(vector))], dtype=np.float32), vector
        )
        np.testing.assert_array_equal(np.array(lines[path]["embedding"], dtype=np.float32), vector)


def test_from_python_it_is_what_the_head_classifies(run, digits, tmp_path):
    predictor = package.load(run)
    paths = [digits / "digit 0" / f"{i:03}.png" for i in range(40 % PER_CLASS)]
    found = predictor.embed(paths)
    assert found.shape == (len(paths), predictor.model.config.dim)
    torch.testing.assert_close(predictor.embed(paths[0]), found[0])
    with torch.no_grad():
        likeliest = predictor.model.mlp_head(found).argmax(dim=1)
    assert [predictor.labels[i] for i in likeliest] == [one.label for one in predictor.predict(paths)]
    assert predictor.embed([]).shape == (0, predictor.model.config.dim)


def test_what_cannot_be_written_is_refused_before_any_work(run, digits, tmp_path):
    (tmp_path / "there.npz").touch()
    for flags, reported in (
        (["--out", "there.npz"], "already exists"),
        (["--out", "a.txt"], ".npz or .csv"),
        ([], "pass --out"),
        (["--ouch"], "unknown option --ouch"),
    ):
        done = run_megavit("embed", run, digits, *flags, cwd=tmp_path)
        assert done.returncode == 2 and reported in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
