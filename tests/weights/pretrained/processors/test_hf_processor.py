"""A dozen cases of the sweep over image processors: pixels are those of the peer's own processor, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from transformers import (
    AutoImageProcessor,
    CLIPImageProcessor,
    SiglipConfig,
    SiglipForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from benchmarks.conversion.processors import cases, compare
from megavit.data.augment import normalize
from megavit.predict.predictor import load
from megavit.weights.pretrained.load_checkpoint import read_processor_settings
from megavit.weights.pretrained.pretrained import load_pretrained
from megavit.weights.pretrained.to_bundle import build_model, convert_to_bundle
from tests.helpers.image_processors import images_of_all_sizes, prepare_image

CASES = {case.name: case for case in cases() if case.library == "transformers"}
EXACT = (
    "ViTImageProcessor",
    "DeiTImageProcessor",
    "CLIPImageProcessor",
    "BitImageProcessor",
    "ConvNextImageProcessor: size 224",
    "EfficientNetImageProcessor",
    "DINOv3ViTImageProcessor",
    "CLIPImageProcessor: do_rescale false",
    "CLIPImageProcessor: do_rescale null",
    "CLIPImageProcessor: do_normalize false",
    "ViTImageProcessor: rescale_factor 1/127.5",
    "ViTImageProcessor: image_mean 0.5, image_std 0.25",
    "ViTImageProcessor: size (239, 254), crop 224",
    "CLIPImageProcessor: shortest_edge 256, crop 208 × 224",
    "no class, model_type dinov2",
    "SiglipImageProcessor: 384 in patches of 14",
    "CLIPImageProcessor: 384 in patches of 14",
)
REFUSED = (
    "ViTImageProcessor: do_resize false",
    "ViTImageProcessor: longest_edge",
    "ViTImageProcessor: do_pad, pad_size 256",
    "CLIPImageProcessor: resample lanczos",
    "CLIPImageProcessor: do_flip_channel_order",
)


@pytest.mark.parametrize("name", EXACT)
def test_pixels_are_those_of_their_own_processor(name: str) -> None:
    row = compare(CASES[name], images_of_all_sizes())
    assert (row.refused, row.peer_error) == ("", "")
    assert row.normalized <= 1e-5, row.worst


@pytest.mark.parametrize("name", REFUSED)
def test_what_we_do_not_do_is_refused(name: str) -> None:
    assert "processor" in compare(CASES[name], images_of_all_sizes()).refused


def test_a_processor_of_images_and_texts_keeps_its_settings_in_a_file_of_its_own(tmp_path: Path) -> None:
    inner = json.loads(CLIPImageProcessor(size={"shortest_edge": 30}, crop_size=28).to_json_string())
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner, "processor_class": "CLIP"}))
    other: dict[str, Any] = {"image_processor_type": "ViTImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(other))
    theirs: Any = AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert read_processor_settings(tmp_path) == inner
    assert theirs.crop_size.height == 28
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIP"}))
    assert read_processor_settings(tmp_path) == other


def test_a_size_that_the_model_was_not_made_for_is_told(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    settings: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_labels": 3} | sizes
    model: Any = ViTForImageClassification(ViTConfig(**settings))
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 48}))
    reported = load_pretrained(str(tmp_path)).notes
    assert (
        "the model is for images of 32 × 32 pixels, but its preprocessing returns 48 × 48: positions are resampled"
        in reported
    )
    assert load_pretrained(str(tmp_path), pixel_values_only=True).notes == reported[:1]


@torch.no_grad()
def test_a_model_whose_patches_do_not_divide_its_images_answers_as_transformers_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = {
        "image_size": 48,
        "patch_size": 14,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    settings: dict[str, Any] = {"vision_config": tower, "num_labels": 3}
    model: Any = SiglipForImageClassification(SiglipConfig(**settings)).eval()
    model.save_pretrained(tmp_path)
    processor = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 48, "width": 48}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    theirs: Any = AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    source = load_pretrained(str(tmp_path))
    ours = build_model(source)
    assert source.preprocessing is not None
    for _, image in images_of_all_sizes():
        yours = model(theirs(image.convert("RGB"), return_tensors="pt")["pixel_values"]).logits
        mine = ours(prepare_image(image, source.preprocessing)[None])
        torch.testing.assert_close(mine, yours, atol=1e-5, rtol=1e-5)


def test_a_jpeg_far_larger_than_needed_is_prepared_as_their_own_processor_does(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    settings: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_labels": 3} | sizes
    model: Any = ViTForImageClassification(ViTConfig(**settings))
    model.save_pretrained(tmp_path / "theirs")
    theirs: Any = ViTImageProcessor(size={"height": 32, "width": 32})
    theirs.save_pretrained(tmp_path / "theirs")
    convert_to_bundle(load_pretrained(str(tmp_path / "theirs")), tmp_path / "ours")
    Image.fromarray(load_sample_images().images[0]).save(tmp_path / "large.jpg", quality=95)
    predictor = load(tmp_path / "ours", device="cpu")
    pixels = normalize(predictor.prepare(tmp_path / "large.jpg")[None], predictor.info.preprocessing)
    with Image.open(tmp_path / "large.jpg") as image:
        expected = theirs(image, return_tensors="pt").pixel_values
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)
