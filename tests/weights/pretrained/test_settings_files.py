"""Settings files of other libraries may say anything: a model as they say, or one plain error."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from megavit.cli.commands.convert import parse_size
from megavit.errors import BundleError, ConfigError, MegavitError
from megavit.weights.pretrained.pretrained import load_pretrained
from megavit.weights.pretrained.to_bundle import convert_to_bundle
from tests.helpers.bundles import make_bundle

KEYS = (
    "architecture", "model_args", "pretrained_cfg", "global_pool", "num_heads", "img_size", "act_layer", "label_names",
    "id2label", "mean", "std", "crop_pct", "crop_mode", "input_size", "interpolation", "preprocess_cfg",
)  # fmt: skip
PROCESSOR_KEYS = (
    "image_mean",
    "image_std",
    "size",
    "crop_size",
    "do_center_crop",
    "resample",
    "height",
    "shortest_edge",
)
leaves = (
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.sampled_from(["", "token", "vit_clip_", "é"])
)


def anything(keys: tuple[str, ...]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(keys)
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 1, "num_classes": 3}
    model: Any = timm.create_model("vit_tiny_patch16_224", **sizes)
    path = tmp_path_factory.mktemp("model")
    save_file(dict(model.state_dict()), path / "model.safetensors")
    return path


@given(
    st.dictionaries(st.sampled_from(KEYS), anything(KEYS), max_size=5),
    st.dictionaries(st.sampled_from(PROCESSOR_KEYS), anything(PROCESSOR_KEYS), max_size=5),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_settings_of_any_kind_are_used_or_refused_plainly(
    folder: Path, config: dict[str, Any], processor: dict[str, Any]
) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    try:
        found = load_pretrained(str(folder))
    except MegavitError as error:
        assert str(error)
    else:
        assert found.config.dim == 64
        assert len(found.labels) == len(set(found.labels)) == 3


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_table_of_settings_is_refused(folder: Path, text: bytes) -> None:
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    (folder / "config.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"config\.json"):
        load_pretrained(str(folder))


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    model: Any = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=8, depth=1, num_classes=3)
    tensors = dict(model.state_dict())
    tensors["head.bias"] = torch.tensor([0.0, float("nan"), 1.0])
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(BundleError, match=r"NaN or infinite values: head\.bias"):
        load_pretrained(str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("heads", [0, -1])
def test_heads_that_cannot_be_are_refused(folder: Path, heads: int) -> None:
    with pytest.raises(ConfigError, match="heads"):
        load_pretrained(str(folder / "model.safetensors"), {"heads": heads})


def test_a_bundle_says_its_sizes_itself_and_is_not_converted_to_itself(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    with pytest.raises(ConfigError, match="defines its heads"):
        load_pretrained(str(tmp_path / "bundle"), {"heads": 2})
    with pytest.raises(BundleError, match="already a bundle"):
        convert_to_bundle(load_pretrained(str(tmp_path / "bundle")), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_image_size_is_a_side_or_height_by_width() -> None:
    assert parse_size("--image-size", "224") == 224
    assert parse_size("--image-size", "160x320") == (160, 320)
    for wrong in ("", "x", "12x", "-3", "1.5", "a", "1x2x3"):
        with pytest.raises(ConfigError, match="image-size"):
            parse_size("--image-size", wrong)
