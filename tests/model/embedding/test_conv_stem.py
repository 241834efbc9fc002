from dataclasses import replace
from typing import Any

import pytest
import torch

from megavit.config.vit import Design, ViTConfig
from megavit.errors import ConfigError
from megavit.model.embedding.conv_stem import ConvLayer, ConvStem, ResidualLayer
from megavit.model.vit import MegaVit

CONFIG = ViTConfig(
    image_size=(16, 24), patch_size=8, num_classes=3, dim=16, depth=1, heads=2, mlp_dim=16, design=Design(stem="conv")
)


@pytest.mark.parametrize(("patch_size", "widths"), [(2, (16,)), (4, (8, 16)), (8, (4, 8, 16))])
def test_channels_double_down_to_one_position_per_patch(patch_size: int, widths: tuple[int, ...]) -> None:
    config = replace(CONFIG, patch_size=patch_size)
    stem = MegaVit.from_config(config).patch_embedding
    assert isinstance(stem, ConvStem)
    halving = [layer for layer in stem.layers if isinstance(layer, ConvLayer)]
    assert tuple(len(layer.kernel) for layer in halving) == tuple(width for width, _ in config.stem_layers) == widths
    residual = [layer for layer in stem.layers if isinstance(layer, ResidualLayer)]
    assert len(residual) == len(widths) + 1  # one after each, and one more at the tokens' resolution
    assert stem(torch.randn(2, 3, 16, 24)).shape == (2, config.num_patches, 16)


def test_tokens_come_row_by_row() -> None:
    stem = MegaVit.from_config(replace(CONFIG, image_size=256)).patch_embedding
    images = torch.zeros(1, 3, 256, 256)
    images[:, :, 252:, :4] = 1.0  # the last row's first token
    changed = (stem(images) != stem(torch.zeros_like(images))).any(dim=2)[0].view(32, 32)
    assert changed[31, 0] and not changed[:22].any() and not changed[:, 10:].any()


def test_an_images_tokens_do_not_depend_on_the_others() -> None:
    stem = MegaVit.from_config(CONFIG).patch_embedding
    images = torch.randn(3, 3, 16, 24)
    torch.testing.assert_close(stem(images)[1], stem(images[1:2])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_size": 7, "image_size": 14}, "patch_size of 2, 4, 8, 16"),
        ({"patch_size": (8, 4)}, "patch_size of 2, 4, 8, 16"),
        ({"patch_size": 1}, "patch_size of 2, 4, 8, 16"),
        ({"dim": 10}, "10 is not divisible by 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(CONFIG, **changes)


def test_a_stem_has_norms_of_its_own() -> None:
    with pytest.raises(ConfigError, match="patch_norm"):
        Design(stem="conv", patch_norm=True)
