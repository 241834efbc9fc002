from pathlib import Path

import pytest

from megavit.api.settings import default_out, merge_arguments, prefer_minutes, read_recipe, read_settings
from megavit.config.recipe import Recipe
from megavit.config.recipes import demo
from megavit.config.serialization import merge
from megavit.errors import ConfigError


def recipe_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("base", ["3", "'nope'", "['small']", "'mine.toml'"])
def test_a_base_that_is_no_recipe_is_refused_by_its_name(tmp_path, base):
    with pytest.raises(ConfigError, match=r"base in .*mine\.toml must be one of auto, small"):
        read_recipe(recipe_file(tmp_path, f"base = {base}"))


@pytest.mark.parametrize("text", ["run = [1]", "[[run]]\nepochs = 1", "epochs = 1"])
def test_settings_outside_a_table_are_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="must be in a table"):
        read_recipe(recipe_file(tmp_path, text))


def test_minutes_take_the_place_of_the_epochs_of_an_earlier_recipe():
    settings = {"run": {"minutes": 2.0}}
    prefer_minutes(settings)
    merged: Recipe = merge(demo(), settings, "the recipe")
    assert merged.run.epochs is None and merged.run.minutes == 2


@pytest.mark.parametrize("settings", [{"run": {"minutes": 2.0, "epochs": 3}}, {"run": {"seed": 1}}, {}])
def test_epochs_that_stand_beside_minutes_stay(settings):
    before = {table: dict(keys) for table, keys in settings.items()}
    prefer_minutes(settings)
    assert settings == before


def test_the_run_is_named_after_the_data_and_a_taken_name_gets_a_number(tmp_path, monkeypatch):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "photos" / "cat")
    assert default_out("..") == default_out("../") == Path("runs/photos")
    assert default_out("/data/table.csv") == Path("runs/table") and default_out("t.tsv") == Path("runs/t")
    assert default_out("/data/photos-{0000..0031}.tar") == default_out("http://host/photos.tar") == Path("runs/photos")
    assert default_out("demo:digits") == Path("runs/demo-digits") and default_out("/") == Path("runs/run")
    Path("runs/photos").mkdir(parents=True)
    assert default_out("..") == Path("runs/photos")  # what a mistake left empty is free
    Path("runs/photos/plan.json").touch()
    assert default_out("..") == Path("runs/photos-2")


def test_what_the_caller_sets_goes_before_the_file_and_the_file_before_the_recipe(tmp_path):
    path = recipe_file(tmp_path, "base = 'photos'\n[run]\nseed = 1\nbatch_size = 8\n[augment]\nflip = false")
    found = read_settings(path, {"run": {"seed": 2, "epochs": None}, "model": {"preset": "S"}})
    assert found.recipe == "photos"
    assert found.overrides == {
        "run": {"seed": 2, "batch_size": 8},
        "augment": {"flip": False},
        "model": {"preset": "S"},
    }
    assert found.nproc == 1 and read_settings("auto", {"parallel": {"nproc": 4}}).nproc == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run": {"minutes": 1.0, "epochs": 1}}, "--minutes and --epochs both"),
        ({"model": {"pretrained": "scratch"}, "finetune": {"method": "probe"}}, "--finetune needs pretrained weights"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        read_settings("auto", settings)


def test_arguments_and_nested_settings_are_one():
    arguments = {"run": {"minutes": 2.0, "seed": None}, "model": {"preset": None}}
    merged = merge_arguments(arguments, {"run": {"seed": 3}, "augment": {"flip": True}})
    assert merged == {"run": {"minutes": 2.0, "seed": 3}, "model": {}, "augment": {"flip": True}}
    assert merge_arguments(arguments, None) == {"run": {"minutes": 2.0}, "model": {}}


def test_what_is_set_twice_or_not_nested_is_refused():
    with pytest.raises(ConfigError, match=r"run\.minutes is set twice"):
        merge_arguments({"run": {"minutes": 2.0}}, {"run": {"minutes": 3.0}})
    with pytest.raises(ConfigError, match=r"settings must be nested.*'epochs' is 3"):
        merge_arguments({}, {"epochs": 3})  # type: ignore[dict-item]
