import json
from pathlib import Path

import pytest

from megavit.config.recipe import ModelRecipe, Recipe, RunRecipe
from megavit.data.dataset import LabeledImages, Sample, Skipped, read_samples
from megavit.errors import BundleError, OutputError
from megavit.train.clock import RunLength
from megavit.train.run_dir import PLAN, RECIPE, SAMPLES, SKIPPED, Plan, check_run_dir, read_plan, write_plan

PLANNED = Plan(
    source="/data/猫",
    fingerprint="0" * 32,
    recipe=Recipe(model=ModelRecipe(preset="pico", image_size=8), run=RunRecipe(minutes=0.1, batch_size=3)),
    length=RunLength(steps=7, time=None),
    threads=2,
)


def images() -> LabeledImages:
    samples = (Sample('a "b",\n猫.png', 0, "train", 8, 8, 1, "0" * 16),)
    return LabeledImages("data", Path("data"), ("x",), samples, (Skipped("caf\udce9.txt", "no, not\nthis"),), "all")


def test_a_plan_is_read_as_it_was_written(tmp_path):
    write_plan(tmp_path, PLANNED, images())
    assert read_plan(tmp_path) == PLANNED
    assert {path.name for path in tmp_path.iterdir()} == {PLAN, RECIPE, SAMPLES, SKIPPED}
    assert [row.name for row in read_samples(tmp_path / SAMPLES)] == ['a "b",\n猫.png']
    assert (tmp_path / SKIPPED).read_bytes() == b'"name","reason"\n"caf\xe9.txt","no, not\nthis"\n'


@pytest.mark.parametrize("where", ["empty", "missing", "file", "file/below"])
def test_where_there_is_no_plan_the_error_says_how_to_begin(tmp_path, where):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"no run to resume.*start one with megavit train"):
        read_plan(tmp_path / where)


@pytest.mark.parametrize(
    "change",
    [
        {"length": {"steps": 0, "time": None}},
        {"threads": 0},
        {"threads": 10**9},
        {"length": {"steps": "7", "time": None}},
        {"more": 1},
        {"recipe": {"run": 1}},
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path, change):
    write_plan(tmp_path, PLANNED, images())
    table = json.loads((tmp_path / PLAN).read_text())
    (tmp_path / PLAN).write_text(json.dumps(table | change))
    with pytest.raises(BundleError, match=next(iter(change))):
        read_plan(tmp_path)


def test_a_plan_cut_short_is_refused(tmp_path):
    write_plan(tmp_path, PLANNED, images())
    (tmp_path / PLAN).write_bytes((tmp_path / PLAN).read_bytes()[:100])
    with pytest.raises(BundleError, match="not valid JSON"):
        read_plan(tmp_path)


def test_a_run_needs_a_folder_of_its_own_outside_the_data(tmp_path, monkeypatch):
    data, full, run = tmp_path / "data", tmp_path / "full", tmp_path / "a run"
    for folder in (data / "cat", full, run):
        folder.mkdir(parents=True)
    (full / "mine.txt").touch()
    (run / PLAN).touch()
    for out in (data, full):
        with pytest.raises(OutputError, match="not empty"):
            check_run_dir(out, str(data))
    with pytest.raises(OutputError, match=r"--resume '.*a run'"):
        check_run_dir(run, str(data))
    monkeypatch.chdir(data)
    for out in (data / "cat" / "run", Path("runs/data"), tmp_path / "x" / ".." / "data" / "run"):
        with pytest.raises(OutputError, match="within the data"):
            check_run_dir(out, ".")


def test_a_new_folder_and_one_with_hidden_files_only_will_do(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    for out in (tmp_path / "out", tmp_path / "new"):
        check_run_dir(out, "demo:digits")
        check_run_dir(out, str(tmp_path / "data"))
