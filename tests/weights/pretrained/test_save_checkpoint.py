"""Models written for other libraries are loaded by these as their own, and answer alike."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import timm.data
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.errors import BundleError, OutputError
from megavit.model.vit import MegaVit
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained
from megavit.weights.pretrained.save_checkpoint import save_pretrained
from megavit.weights.pretrained.to_bundle import build_model
from tests.helpers.image_processors import images_of_all_sizes, prepare_image

SIZES: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "num_classes": 3,
    "dim": 48,
    "depth": 2,
    "heads": 4,
    "mlp_dim": 100,
    "dim_head": 12,
}
LABELS = ("cat", "dog", "owl")

DESIGNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "oblong": {"image_size": (24, 40)},
    "mean": {"pool": "mean"},
    "mean, then a norm": {"pool": "mean", "design": replace(PLAIN_VIT, final_norm="pooled")},
    "attention pool": {"pool": "map"},
    "registers with positions": {"design": replace(PLAIN_VIT, registers=2, prefix_positions="all")},
    "registers without": {"pool": "mean", "design": replace(PLAIN_VIT, registers=2, prefix_positions="none")},
    "an unused class token": {"pool": "mean", "design": replace(PLAIN_VIT, registers=1, prefix_positions="all")},
    "layer scale and qk norm": {"design": replace(PLAIN_VIT, layer_scale=0.1, qk_norm=True, qkv_bias=False)},
    "CLIP's": {"design": replace(PLAIN_VIT, pre_norm=True, norm_eps=1e-5, mlp="quick_gelu")},
    "SwiGLU": {"design": replace(PLAIN_VIT, mlp="swiglu")},
    "GELU by tanh": {"design": replace(PLAIN_VIT, mlp="gelu_tanh")},
    "no head": {"num_classes": 0},
    "gray": {"channels": 1},
}


def source(**changes: Any) -> PretrainedModel:
    config = ViTConfig(**SIZES | {"design": PLAIN_VIT} | changes)
    torch.manual_seed(0)
    model = MegaVit.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # CLIP's patch projection has no bias.
            if not (config.design.pre_norm and name == "patch_embedding.projection.bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    height, width = config.image_hw
    preprocessing = Preprocessing(
        height=height, width=width, channels=config.channels, mean=0.4, std=0.3, patch_size=config.patch_size
    )
    labels = LABELS if config.num_classes else ()
    tensors = dict(model.state_dict())
    return PretrainedModel(name="ours", config=config, tensors=tensors, preprocessing=preprocessing, labels=labels)


def images(config: ViTConfig) -> torch.Tensor:
    return torch.randn(2, config.channels, *config.image_hw, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", DESIGNS)
@torch.no_grad()
def test_timm_loads_it_and_answers_alike(tmp_path: Path, name: str) -> None:
    ours = source(**DESIGNS[name])
    save_pretrained("timm", ours, tmp_path / "out")
    theirs: Any = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    x = images(ours.config)
    torch.testing.assert_close(theirs(x), build_model(ours)(x), atol=1e-5, rtol=1e-5)
    preparation = timm.data.resolve_model_data_config(theirs)
    assert preparation["input_size"] == (ours.config.channels, *ours.config.image_hw)
    assert list(preparation["mean"]) == [0.4] * ours.config.channels


@pytest.mark.parametrize("name", ["plain", "oblong", "GELU by tanh", "no head", "gray"])
@torch.no_grad()
def test_transformers_loads_it_and_answers_alike(tmp_path: Path, name: str) -> None:
    ours = source(**DESIGNS[name])
    save_pretrained("huggingface", ours, tmp_path / "out")
    kind = AutoModelForImageClassification if ours.config.num_classes else AutoModel
    extra = {} if ours.config.num_classes else {"add_pooling_layer": False}
    theirs: Any = kind.from_pretrained(tmp_path / "out", local_files_only=True, **extra).eval()
    x, model = images(ours.config), build_model(ours)
    answer = theirs(x).logits if ours.config.num_classes else theirs(x).last_hidden_state[:, 0]
    torch.testing.assert_close(answer, model(x), atol=1e-5, rtol=1e-5)
    if ours.config.num_classes:
        assert [theirs.config.id2label[i] for i in range(3)] == list(LABELS)
    processor: Any = AutoImageProcessor.from_pretrained(tmp_path / "out", local_files_only=True)
    assert list(processor.image_mean) == [0.4] * ours.config.channels


@pytest.mark.parametrize(
    "library, name", [(library, name) for library in ("timm",) for name in DESIGNS] + [("huggingface", "plain")]
)
def test_what_was_written_is_read_back_to_the_bit(tmp_path: Path, library: Any, name: str) -> None:
    ours = source(**DESIGNS[name])
    save_pretrained(library, ours, tmp_path / "out")
    back = load_pretrained(str(tmp_path / "out"))
    # What LayerScale started from is in no file.
    design = replace(ours.config.design, layer_scale=None if ours.config.design.layer_scale is None else 1.0)
    assert back.config == replace(ours.config, design=design)
    assert back.labels == ours.labels
    assert back.tensors.keys() == ours.tensors.keys()
    assert all(torch.equal(back.tensors[key], ours.tensors[key]) for key in ours.tensors)
    assert back.preprocessing == replace(
        ours.preprocessing or pytest.fail("it has one"),
        mean=(0.4,) * ours.config.channels,
        std=(0.3,) * ours.config.channels,
        reduced_decoding=False,  # which other libraries never do
    )


ROUNDING: dict[str, Any] = {"timm": "half_even", "huggingface": "floor"}


def cut_source(library: str, **changes: Any) -> PretrainedModel:
    """Of a model whose images are cut as `library` cuts them."""
    ours = source()
    assert ours.preprocessing is not None
    settings: dict[str, Any] = {
        "mean": (0.4,) * 3,
        "std": (0.3,) * 3,
        "interpolation": "bilinear",
        "crop_rounding": ROUNDING[library],
        "reduced_decoding": False,
    }
    return replace(ours, preprocessing=replace(ours.preprocessing, **settings | changes))


@pytest.mark.parametrize("resize", [40, (36, 36), 36, 33])
@pytest.mark.parametrize("library", ["timm", "huggingface"])
def test_how_images_are_cut_goes_along(tmp_path: Path, library: Any, resize: Any) -> None:
    ours = cut_source(library, resize=resize)
    save_pretrained(library, ours, tmp_path / "out")
    assert load_pretrained(str(tmp_path / "out")).preprocessing == ours.preprocessing


@pytest.mark.parametrize(
    "library, changes",
    [
        ("huggingface", {"resize": (33, 35)}),
        ("huggingface", {"resize": 33}),
        ("huggingface", {"resize": 45, "crop_size": 38}),
        ("huggingface", {"resize": 45, "resize_dtype": "float32"}),
        ("huggingface", {"resize_dtype": "float32"}),
        ("timm", {"resize": 33}),
        ("timm", {"resize": (36, 36)}),
        ("timm", {"resize": 45, "crop_size": 38}),
        ("timm", {"resize": (38, 38), "crop_size": 38}),
    ],
)
def test_their_own_processor_makes_the_same_pixels(tmp_path: Path, library: Any, changes: dict[str, Any]) -> None:
    ours = cut_source(library, **changes)
    save_pretrained(library, ours, tmp_path / "out")
    preprocessing = ours.preprocessing
    assert preprocessing is not None
    for name, image in images_of_all_sizes():
        mine = prepare_image(image, preprocessing)
        if library == "timm":
            theirs: Any = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
            settings: Any = timm.data.resolve_model_data_config(theirs)
            transform: Any = timm.data.create_transform(**settings)
            yours, levels = transform(image.convert("RGB")), 2  # Pillow rounds otherwise than PyTorch
        else:
            theirs = AutoModelForImageClassification.from_pretrained(tmp_path / "out", local_files_only=True).eval()
            processor: Any = AutoImageProcessor.from_pretrained(tmp_path / "out", local_files_only=True)
            yours, levels = processor(image, return_tensors="pt")["pixel_values"][0], 0
        # What is no whole patch, their convolution leaves out.
        apart = (mine - yours[:, : mine.shape[1], : mine.shape[2]]).abs().max().item()
        assert apart < levels / 255 / 0.3 + 1e-5, name
        with torch.no_grad():
            answer = theirs(yours[None])
            answer = answer if library == "timm" else answer.logits
            expected = build_model(ours)(yours[None, :, :32, :32])
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "library, changes, words",
    [
        ("timm", {"resize": (72, 80)}, "--to huggingface"),
        ("timm", {"resize": 40, "crop_rounding": "floor"}, "rounds it to the even number"),
        ("huggingface", {"resize": 40, "crop_rounding": "half_even"}, "--to timm"),
    ],
)
def test_a_resize_that_theirs_has_not_is_refused(
    tmp_path: Path, library: Any, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        save_pretrained(library, cut_source(library, **changes), tmp_path / "out")


def test_a_crop_that_both_round_alike_is_written_for_both(tmp_path: Path) -> None:
    for library in ("timm", "huggingface"):
        for rounding in ("half_even", "floor"):
            alike = cut_source(library, resize=(36, 36), crop_rounding=rounding)
            save_pretrained(library, alike, tmp_path / f"{library} {rounding}")


@pytest.mark.parametrize("library", ["timm", "huggingface"])
def test_parts_that_theirs_has_not_are_all_named(tmp_path: Path, library: Any) -> None:
    ours = source(design=Design(mlp="relu2", positions="sincos"))
    with pytest.raises(BundleError) as caught:
        save_pretrained(library, ours, tmp_path / "out")
    for word in ("relu2", "sincos", *(("block", "norm_bias") if library == "huggingface" else ())):
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("library", ["timm", "huggingface"])
@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_a_head_on_class_token_and_mean_is_refused_by_name(tmp_path: Path, library: Any, positions: Any) -> None:
    ours = source(pool="cls_mean", design=replace(PLAIN_VIT, positions=positions))
    named = "cls_mean" if library == "timm" or positions == "learned" else "positions: 'rope'"
    with pytest.raises(BundleError, match=named):
        save_pretrained(library, ours, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose a new folder"):
        save_pretrained("timm", source(), tmp_path)


def test_settings_are_json_that_any_program_reads(tmp_path: Path) -> None:
    save_pretrained("timm", source(), tmp_path / "out")
    settings = json.loads((tmp_path / "out/config.json").read_text())
    assert settings["label_names"] == list(LABELS)
