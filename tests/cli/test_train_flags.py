from pathlib import Path

import pytest

from megavit.cli.app import run
from megavit.cli.commands.demo import PARTS, remove_earlier
from megavit.cli.commands.train import default_out, prefer_minutes, read_recipe
from megavit.config.recipe import Recipe
from megavit.config.recipes import demo
from megavit.config.serialization import merge
from megavit.errors import ConfigError, OutputError
from megavit.training.run_dir import PLAN


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


def test_a_name_that_is_too_long_is_a_message(capsys):
    assert run(["train", "x" * 300]) == 2
    assert "too long" in capsys.readouterr().err


def test_the_demo_removes_its_own_run_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr("megavit.training.run_dir.read_plan", lambda out: type("Plan", (), {"source": "demo:digits"}))
    remove_earlier(tmp_path / "nothing")
    for part in (*PARTS, PLAN):
        (tmp_path / part).mkdir() if "." not in part else (tmp_path / part).touch()
    (tmp_path / "precious.txt").touch()
    with pytest.raises(OutputError, match=r"precious\.txt"):
        remove_earlier(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(PARTS) + 2
    (tmp_path / "precious.txt").unlink()
    remove_earlier(tmp_path)
    assert not any(tmp_path.iterdir())
