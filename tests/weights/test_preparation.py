"""Images are prepared as the peers themselves prepare them, on real photographs."""

from typing import Any

import numpy as np
import PIL.Image
import pytest
import timm.data
import torch
from sklearn.datasets import load_sample_images
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from megavit.config.vit import PLAIN_VIT, ViTConfig
from megavit.data.augment import normalise
from megavit.data.decode import from_pillow
from megavit.data.pictures import prepare
from megavit.errors import BundleError
from megavit.weights.preparation import labels_of, preprocessing_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def config(size: int = 224) -> ViTConfig:
    return ViTConfig(
        image_size=size, patch_size=16, num_classes=3, dim=64, depth=1, heads=1, mlp_dim=64, design=PLAIN_VIT
    )


@pytest.fixture(scope="module")
def photographs() -> list[PIL.Image.Image]:
    wide, also_wide = (PIL.Image.fromarray(image) for image in load_sample_images().images)
    return [wide, also_wide.rotate(90, expand=True).crop((0, 11, 427, 600))]


def ours(photograph: PIL.Image.Image, settings: dict[str, Any], processor: dict[str, Any], size: int) -> torch.Tensor:
    preprocessing = preprocessing_of(config(size), settings, processor)
    assert preprocessing is not None
    pixels = from_pillow(photograph)
    resized = preprocessing.size_for(pixels.shape[1], pixels.shape[2])
    return normalise(prepare(pixels, resized, preprocessing)[None], preprocessing)[0]


def assert_close_in_levels(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    """Within a level of 255 nearly everywhere: theirs rounds between the two directions of its resizing."""
    levels = (mine - theirs).abs() * torch.tensor(STD)[:, None, None] * 255
    assert mine.shape == theirs.shape
    assert levels.mean() < 0.3
    assert levels.max() < 4


@pytest.mark.parametrize(
    "mode, crop", [("center", 0.9), ("center", 1.0), ("center", 0.875), ("squash", 1.0), ("squash", 0.95)]
)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_as_timm(photographs: list[PIL.Image.Image], mode: str, crop: float, interpolation: str) -> None:
    given = {"mean": MEAN, "std": STD, "crop_pct": crop, "crop_mode": mode, "interpolation": interpolation}
    transform: Any = timm.data.create_transform(
        (3, 224, 224), mean=MEAN, std=STD, crop_pct=crop, crop_mode=mode, interpolation=interpolation
    )
    for photograph in photographs:
        assert_close_in_levels(ours(photograph, {"pretrained_cfg": given}, {}, 224), transform(photograph))


def test_as_hugging_face_squashes(photographs: list[PIL.Image.Image]) -> None:
    processor = {"image_mean": MEAN, "image_std": STD, "size": {"height": 224, "width": 224}, "resample": 2}
    transform = transforms.Resize((224, 224), interpolation=InterpolationMode.BILINEAR, antialias=True)
    for photograph in photographs:
        pixels = transform(torch.from_numpy(np.array(photograph)).permute(2, 0, 1)).float() / 255
        theirs = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        assert_close_in_levels(ours(photograph, {}, processor, 224), theirs)


def test_as_hugging_face_cuts_the_middle_out(photographs: list[PIL.Image.Image]) -> None:
    processor = {
        "image_mean": MEAN,
        "image_std": STD,
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": 3,
    }
    found = preprocessing_of(config(), {}, processor)
    assert found is not None
    assert (found.resize, found.height, found.width, found.interpolation) == (256, 224, 224, "bicubic")
    assert ours(photographs[0], {}, processor, 224).shape == (3, 224, 224)


def test_what_is_cut_out_is_the_middle() -> None:
    pixels = torch.zeros(3, 40, 80, dtype=torch.uint8)
    pixels[:, :, 15:65] = 255
    given = {"mean": [0.0] * 3, "std": [1.0] * 3, "crop_pct": 1.0, "crop_mode": "center"}
    found = preprocessing_of(config(32), {"pretrained_cfg": given}, {})
    assert found is not None
    assert found.size_for(40, 80) == (32, 64)
    assert prepare(pixels, (32, 64), found).float().mean() == 255


@pytest.mark.parametrize(
    "settings, processor, word",
    [
        ({"pretrained_cfg": {"mean": MEAN, "std": STD, "crop_mode": "border"}}, {}, "border"),
        ({"pretrained_cfg": {"mean": MEAN, "std": STD, "interpolation": "lanczos"}}, {}, "lanczos"),
        ({}, {"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 224}}, "--keep-aspect"),
        ({}, {"image_mean": MEAN, "image_std": STD, "size": {"height": 224, "width": 224}, "resample": 1}, "resample"),
        ({"preprocess_cfg": {"mean": MEAN, "std": STD, "resize_mode": "longest"}}, {}, "longest"),
    ],
)
def test_a_way_that_we_do_not_have_is_refused(settings: Any, processor: Any, word: str) -> None:
    with pytest.raises(BundleError, match=word):
        preprocessing_of(config(), settings, processor)


def test_settings_that_say_nothing_of_it_give_none() -> None:
    assert preprocessing_of(config(), {"architecture": "vit"}, {}) is None


def test_labels_are_as_named_and_each_another_one() -> None:
    assert labels_of({"label_names": ["a", "b", "a"]}, 3) == ("a", "b", "a (2)")
    assert labels_of({"id2label": {"1": "dog", "0": "cat", "2": "owl"}}, 3) == ("cat", "dog", "owl")
    assert labels_of({"label_names": ["a"]}, 2) == ("class 0", "class 1")
    assert labels_of({}, 0) == ()
