from pathlib import Path

import pytest
import torch

import megavit
from megavit.errors import BundleError, ConfigError
from tests.helpers.bundles import make_bundle, make_model


def test_a_preset_is_a_module_of_the_published_size() -> None:
    model = megavit.create_model("Ti", num_classes=10, image_size=32)
    assert model.training and model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert (model.config.dim, model.config.depth, model.config.patch_hw) == (192, 12, (16, 16))
    assert megavit.create_model("pico").config.num_classes == 1000
    assert megavit.create_model("pico", num_classes=0, channels=1)(torch.rand(1, 1, 8, 8)).shape == (1, 64)


def test_pretrained_weights_bring_their_head_unless_another_is_asked_for(tmp_path: Path) -> None:
    theirs = make_bundle(tmp_path / "bundle")
    images = torch.rand(2, 3, 8, 8)
    same = megavit.create_model(pretrained=tmp_path / "bundle").eval()
    assert torch.equal(same(images), theirs(images))
    other = megavit.create_model(pretrained=tmp_path / "bundle", num_classes=7).eval()
    assert other(images).shape == (2, 7)
    assert torch.equal(other.features(images).pooled, theirs.features(images).pooled)
    larger = megavit.create_model(pretrained=tmp_path / "bundle", image_size=16, channels=1)
    assert larger(torch.rand(1, 1, 16, 16)).shape == (1, 3)


def test_a_name_beside_weights_is_checked(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", make_model(dim=64, depth=4, heads=2, mlp_dim=192, dim_head=32))
    assert megavit.create_model("pico", pretrained=tmp_path / "bundle").config.num_classes == 3
    with pytest.raises(ConfigError, match="not of the size nano: dim 64 instead of 128, depth 4 instead of 5"):
        megavit.create_model("nano", pretrained=tmp_path / "bundle")
    with pytest.raises(ConfigError, match="leave them out"):
        megavit.create_model(pretrained=tmp_path / "bundle", patch_size=2)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="there is no preset 'vit_small': choose one of pico"):
        megavit.create_model("vit_small")
    with pytest.raises(ConfigError, match="name a preset"):
        megavit.create_model()
    with pytest.raises(BundleError, match="nowhere does not exist"):
        megavit.create_model(pretrained="nowhere")
