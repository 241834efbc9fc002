"""Every named recipe is a recipe, and says what it is for."""

import tomllib

import pytest

from megavit.config.recipe import Recipe
from megavit.config.recipes import RECIPES, get_recipe
from megavit.config.serialization import dump_toml, from_dict
from megavit.errors import ConfigError


@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_survives_its_toml(name):
    recipe = get_recipe(name)
    assert isinstance(recipe, Recipe)
    assert from_dict(Recipe, tomllib.loads(dump_toml(recipe)), name) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_says_what_it_is_for(name):
    assert RECIPES[name].__name__ == name
    assert (RECIPES[name].__doc__ or "").strip()


@pytest.mark.parametrize("name", ["small", "demo"])
def test_digits_and_letters_are_never_mirrored(name):
    assert not get_recipe(name).augment.flip


@pytest.mark.parametrize("name", ["Small", "", "auto"])
def test_any_other_name_is_refused_with_the_names_there_are(name):
    with pytest.raises(ConfigError, match="recipe must be one of small, photos, demo; got"):
        get_recipe(name)
