"""Read the settings of a training: a named recipe or a recipe file, and what the caller sets on top."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megavit.config.recipe import SCRATCH
from megavit.errors import ConfigError

Settings = Mapping[str, Mapping[str, Any]]
"""Settings nested as in `megavit.config.recipe.Recipe`, such as {"optimizer": {"learning_rate": 1e-3}}."""


@dataclass(frozen=True)
class TrainSettings:
    """The name of a recipe, or "auto", and the settings that replace its own."""

    recipe: str
    overrides: dict[str, dict[str, Any]]

    @property
    def nproc(self) -> int:
        """The number of processes that the settings ask for; 1 if they do not, or not with a number."""
        nproc = self.overrides.get("parallel", {}).get("nproc")
        return nproc if isinstance(nproc, int) else 1

    @property
    def is_cross_validation(self) -> bool:
        """Whether the settings ask for a run of each fold, and not of one."""
        data = self.overrides.get("data", {})
        return data.get("folds") is not None and data.get("fold") is None


def read_settings(recipe: str | os.PathLike[str], settings: Settings) -> TrainSettings:
    """Return the settings of a recipe with the caller's on top, of which those that are None are left out.

    Raises:
        ConfigError: if the recipe cannot be read, or settings exclude each other.
    """
    given = {table: {key: value for key, value in keys.items() if value is not None}
             for table, keys in settings.items()}  # fmt: skip
    run = given.get("run", {})
    if "minutes" in run and "epochs" in run:
        raise ConfigError("--minutes and --epochs both set the length of the training: pass only one of them")
    if "method" in given.get("finetune", {}) and given.get("model", {}).get("pretrained") == SCRATCH:
        raise ConfigError("--finetune needs pretrained weights: name them with --from, or leave it out")
    base, from_file = read_recipe(os.fspath(recipe))
    prefer_minutes(from_file)
    prefer_minutes(given)
    merged = {table: from_file.get(table, {}) | given.get(table, {}) for table in from_file | given}
    merged = {table: keys for table, keys in merged.items() if keys}
    return TrainSettings(base, merged)


def merge_arguments(arguments: Settings, settings: Settings | None) -> dict[str, dict[str, Any]]:
    """Return the arguments of a call, without those that are None, together with the nested `settings`.

    Raises:
        ConfigError: if `settings` is not nested, or both set the same.
    """
    merged = {table: {key: value for key, value in keys.items() if value is not None}
              for table, keys in arguments.items()}  # fmt: skip
    for table, keys in (settings or {}).items():
        if not isinstance(keys, Mapping):
            raise ConfigError(
                f"settings must be nested, such as {{'run': {{'batch_size': 32}}}}, but {table!r} is {keys!r}"
            )
        twice = [key for key in keys if key in merged.get(table, {})]
        if twice:
            raise ConfigError(f"{table}.{twice[0]} is set twice, as an argument and in settings: leave out one of them")
        merged[table] = merged.get(table, {}) | dict(keys)
    return merged


def check_resumed_settings(settings: Settings) -> None:
    """Raise ConfigError unless `settings` are of the table "parallel", as a resumed run keeps all others."""
    other = sorted(set(settings) - {"parallel"})
    if other:
        raise ConfigError(f"a run is resumed with its own settings: leave out {', '.join(other)}")


def read_recipe(recipe: str) -> tuple[str, dict[str, Any]]:
    """Return the base recipe's name, and the settings of the TOML file, if it is one; its `base` names the recipe."""
    from megavit.config.checks import check_choice
    from megavit.config.recipes import RECIPES
    from megavit.config.serialization import read_toml

    if recipe == "auto" or recipe in RECIPES:
        return recipe, {}
    if not recipe.endswith(".toml"):
        raise ConfigError(f"recipe must be auto, {', '.join(RECIPES)}, or a TOML file; got {recipe!r}")
    settings = read_toml(Path(recipe))
    base = settings.pop("base", "auto")
    check_choice(f"base in {recipe}", base, ["auto", *RECIPES])
    loose = [name for name, table in settings.items() if not isinstance(table, dict)]
    if loose:
        raise ConfigError(f"{recipe}: {', '.join(loose)} must be in a table such as [run]")
    return base, settings


def prefer_minutes(settings: dict[str, Any]) -> None:
    """Reset the epochs of the base recipe if only minutes are given, which they would override."""
    run = settings.get("run", {})
    if "minutes" in run and "epochs" not in run:
        run["epochs"] = None


def default_out(source: str) -> Path:
    """Return runs/NAME for the data's name, with a number if the folder exists."""
    path = Path(os.path.normpath(Path(source.replace(":", "-")).absolute()))
    name = path.stem if path.suffix in (".csv", ".tsv", ".tar") else path.name or "run"
    name = re.sub(r"[-_.]*\{\d+\.\.\d+\}", "", name) or "run"
    folder = Path("runs") / name
    number = 1
    while folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder
