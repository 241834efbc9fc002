"""Images are prepared as the peers themselves prepare them, on real photographs."""

from dataclasses import replace
from typing import Any

import PIL.Image
import pytest
import timm.data
import torch
import transformers
from sklearn.datasets import load_sample_images
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from megavit.config.vit import PLAIN_VIT, ViTConfig
from megavit.data.augment import normalize
from megavit.data.decode.tensor import from_pillow
from megavit.data.image_dataset import preprocess
from megavit.errors import BundleError
from megavit.weights.pretrained.outputs import class_names
from megavit.weights.pretrained.processors.hf_defaults import BY_MODEL_TYPE, DEFAULTS
from megavit.weights.pretrained.processors.image_processor import read_preprocessing

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
    preprocessing = read_preprocessing(config(size), settings, processor)
    assert preprocessing is not None
    pixels = from_pillow(photograph)
    resized = preprocessing.size_for(pixels.shape[1], pixels.shape[2])
    return normalize(preprocess(pixels, resized, preprocessing)[None], preprocessing)[0]


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


def test_what_is_cut_out_is_the_middle() -> None:
    pixels = torch.zeros(3, 40, 80, dtype=torch.uint8)
    pixels[:, :, 15:65] = 255
    given = {"mean": [0.0] * 3, "std": [1.0] * 3, "crop_pct": 1.0, "crop_mode": "center"}
    found = read_preprocessing(config(32), {"pretrained_cfg": given}, {})
    assert found is not None
    assert found.size_for(40, 80) == (32, 64)
    assert preprocess(pixels, (32, 64), found).float().mean() == 255


SHORTEST = {"size": {"shortest_edge": 224}}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "timm's border": ({"pretrained_cfg": {"crop_mode": "border"}}, {}, '"crop_mode": "squash"'),
    "timm's lanczos": ({"pretrained_cfg": {"interpolation": "lanczos"}}, {}, "interpolation 'lanczos'"),
    "timm's unknown setting": ({"pretrained_cfg": {"mean": MEAN, "crop_border_pixels": 4}}, {}, "crop_border_pixels 4"),
    "OpenCLIP's longest": ({"preprocess_cfg": {"resize_mode": "longest"}}, {}, '"resize_mode": "squash"'),
    "OpenCLIP's unknown setting": ({"preprocess_cfg": {"gamma": 2}}, {}, "gamma 2"),
    "sizes of their own": ({}, {"image_processor_type": "ViTImageProcessor", **SHORTEST}, '"do_center_crop": true'),
    "another class": ({}, {"image_processor_type": "Siglip2ImageProcessor"}, "Siglip2ImageProcessor"),
    "no class": ({}, {"do_resize": True}, "has no image_processor_type"),
    "nearest": ({"model_type": "vit"}, {"resample": 0}, "resample 0 [(]nearest[)]"),
    "not resized": ({"model_type": "vit"}, {"do_resize": False}, "do_resize false"),
    "BGR": ({"model_type": "vit"}, {"do_flip_channel_order": True}, "do_flip_channel_order True"),
    "padded": ({"model_type": "vit"}, {"do_pad": True, "pad_size": 256}, '"do_pad": false'),
    "two unknown settings": ({"model_type": "vit"}, {"gamma": 2, "sharpen": 1}, "gamma 2, sharpen 1"),
    "no size": ({"model_type": "vit"}, {"size": None}, "size None"),
    "no mean": ({"model_type": "vit"}, {"image_mean": None}, "image_mean is None"),
    "a crop that is padded": ({"model_type": "clip"}, {"crop_size": 256}, "at least the crop size, 256 × 256"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_way_that_we_do_not_have_is_refused_with_what_to_do(name: str) -> None:
    settings, processor, words = REFUSED[name]
    with pytest.raises(BundleError, match=words):
        read_preprocessing(config(), settings, processor)


def test_oblong_images_that_timm_covers_are_refused_with_what_to_do() -> None:
    oblong = replace(config(), image_size=(224, 112))
    with pytest.raises(BundleError, match='Set "crop_mode": "squash"'):
        read_preprocessing(oblong, {"pretrained_cfg": {"input_size": [3, 224, 112]}}, {})


@pytest.mark.parametrize("name", ["timm's border", "OpenCLIP's longest", "sizes of their own", "not resized"])
def test_training_takes_the_values_where_it_does_not_cut(name: str) -> None:
    """A training uses whole images at a size of its own: how theirs were cut is no reason to refuse the weights."""
    settings, processor, _ = REFUSED[name]
    found = read_preprocessing(config(), settings, processor, pixel_values_only=True)
    assert found is not None
    assert (found.height, found.width, found.resize) == (224, 224, None)


def test_a_list_of_old_has_no_table_of_its_own_for_images() -> None:
    given = {"mean": [0.1] * 3, "std": [0.2] * 3, "crop_pct": 0.9, "input_size": [3, 224, 224]}
    nested = read_preprocessing(config(), {"architecture": "vit", "pretrained_cfg": given}, {})
    assert nested is not None
    assert read_preprocessing(config(), {"architecture": "vit", "num_features": 64, **given}, {}) == nested
    assert nested.resize == 248


def test_defaults_are_those_of_the_classes_in_transformers() -> None:
    for name, ours in DEFAULTS.items():
        theirs: Any = getattr(transformers, name)
        for setting, value in ours.items():
            found = getattr(theirs, setting, None)
            found = tuple(found) if isinstance(found, list) else found
            assert (found or False) == value, (name, setting)


def test_classes_that_no_file_names_are_those_that_transformers_takes() -> None:
    for model_type, name in BY_MODEL_TYPE.items():
        assert IMAGE_PROCESSOR_MAPPING_NAMES[model_type]["torchvision"] == name


def test_settings_that_say_nothing_of_it_give_none() -> None:
    assert read_preprocessing(config(), {"architecture": "vit"}, {}) is None
    assert read_preprocessing(config(), {"model_type": "vit"}, {}) is None


def test_labels_are_as_named_and_each_another_one() -> None:
    assert class_names({"label_names": ["a", "b", "a"]}, 3)[0] == ("a", "b", "a (2)")
    assert class_names({"id2label": {"1": "dog", "0": "cat", "2": "owl"}}, 3)[0] == ("cat", "dog", "owl")
    assert class_names({"label_names": ["a"]}, 2)[0] == ("class 0", "class 1")
    assert class_names({"pretrained_cfg": {"label_names": ["a", "b"]}}, 2)[0] == ("a", "b")
    assert class_names({}, 0)[0] == ()
