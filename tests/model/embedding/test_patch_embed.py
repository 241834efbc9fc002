"""Patches are cut row by row and projected like a convolution; images that do not fit are refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError
from megavit.model.embedding.patch_embed import PatchEmbedding

CONFIG = ViTConfig(image_size=(8, 12), patch_size=4, num_classes=5, dim=16, depth=1, heads=2, mlp_dim=24)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("patch_size", [4, [4, 4], (2, 6), (8, 3)])
def test_the_embedding_is_a_convolution_with_its_kernel_reshaped(channels: int, patch_size: Any) -> None:
    config = replace(CONFIG, channels=channels, patch_size=patch_size)
    embedding = PatchEmbedding(config)
    images = torch.randn(2, channels, 8, 12)
    kernel = embedding.projection.weight.view(16, channels, *config.patch_hw)
    maps = F.conv2d(images, kernel, embedding.projection.bias, stride=config.patch_hw)
    torch.testing.assert_close(embedding(images), maps.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-4)


def test_patches_come_row_by_row() -> None:
    embedding = PatchEmbedding(CONFIG)
    images = torch.zeros(1, 3, 8, 12)
    images[:, :, 4:, :4] = 1.0  # second row, first column
    changed = (embedding(images) != embedding(torch.zeros_like(images))).any(dim=2)[0]
    assert changed.tolist() == [False, False, False, True, False, False]


def test_a_patch_of_an_image_is_the_image_of_a_patch() -> None:
    embedding = PatchEmbedding(CONFIG)
    images = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(embedding(images)[:, 5], embedding(images[:, :, 4:, 8:])[:, 0])


@pytest.mark.parametrize(("size", "grid"), [((8, 12), (2, 3)), ((12, 8), (3, 2)), ((4, 4), (1, 1)), ((40, 8), (10, 2))])
def test_any_image_that_the_patches_tile_has_a_grid(size: tuple[int, int], grid: tuple[int, int]) -> None:
    embedding = PatchEmbedding(CONFIG)
    images = torch.zeros(2, 3, *size)
    assert embedding.grid(images) == grid
    assert embedding(images).shape == (2, grid[0] * grid[1], 16)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(3, 8, 12), ["(batch, channels, height, width)", "(3, 8, 12)"]),
        (torch.zeros(1, 1, 3, 8, 12), ["(batch, channels, height, width)", "(1, 1, 3, 8, 12)"]),
        (torch.zeros(2, 1, 8, 12), ["3 channels", "got 1"]),
        (torch.zeros(2, 8, 12, 3), ["3 channels", "got 8"]),
        (torch.zeros(2, 3, 8, 12, dtype=torch.uint8), ["floating point", "torch.uint8"]),
        (torch.zeros(2, 3, 8, 12, dtype=torch.int64), ["floating point", "torch.int64"]),
        (torch.zeros(2, 3, 8, 12, dtype=torch.bool), ["floating point", "torch.bool"]),
        (torch.zeros(2, 3, 9, 12), ["height, 9", "patch's height, 4", "8 or 12"]),
        (torch.zeros(2, 3, 8, 11), ["width, 11", "patch's width, 4", "8 or 12"]),
        (torch.zeros(2, 3, 3, 12), ["height, 3", "nearest such value is 4"]),
        (torch.zeros(2, 3, 0, 12), ["pixels", "0 × 12"]),
        (torch.zeros(2, 3, 8, 0), ["pixels", "8 × 0"]),
    ],
)
def test_images_that_do_not_fit_are_refused_with_both_numbers(images: Tensor, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        PatchEmbedding(CONFIG)(images)
    for word in words:
        assert word in str(caught.value)


def test_an_image_that_does_not_divide_is_a_config_error() -> None:
    with pytest.raises(ConfigError):
        PatchEmbedding(CONFIG)(torch.zeros(2, 3, 9, 12))


def test_an_empty_batch_gives_an_empty_answer() -> None:
    assert PatchEmbedding(CONFIG)(torch.zeros(0, 3, 8, 12)).shape == (0, 6, 16)
