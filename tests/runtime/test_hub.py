"""Models of the hub, as far as it goes without a network: from huggingface_hub's cache, and plain errors."""

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from timm.models import save_for_hf

from megavit.errors import BundleError
from megavit.runtime.hub import download, is_hub_name
from megavit.weights.pretrained.pretrained import load_pretrained

COMMIT = "0" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(cache: Path, user: str, name: str) -> Path:
    """Where huggingface_hub keeps a model that it has fetched."""
    folder = cache / f"models--{user}--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    return snapshot


def test_a_model_of_timms_comes_from_the_cache(cache: Path) -> None:
    theirs: Any = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, patch_size=8, depth=1)
    save_for_hf(theirs, str(cached(cache, "timm", "tiny.mine")), model_config={"label_names": ["a", "b", "c"]})
    found = load_pretrained("timm:tiny.mine")
    assert found.labels == ("a", "b", "c")
    assert found.config.image_hw == (32, 32)
    assert torch.equal(found.tensors["mlp_head.weight"], theirs.head.weight)
    assert found.preprocessing is not None
    assert (found.preprocessing.mean, found.preprocessing.interpolation) == ((0.5, 0.5, 0.5), "bicubic")


@pytest.mark.parametrize(
    "source, words",
    [
        ("hf-hub:someone/something", ("someone/something", "network")),
        ("timm:vit_tiny", ("timm/vit_tiny", "network")),
        ("hf-hub:a name", ("not a model name",)),
    ],
)
def test_what_cannot_be_had_is_said_plainly(cache: Path, source: str, words: tuple[str, ...]) -> None:
    with pytest.raises(BundleError) as caught:
        download(source)
    for word in words:
        assert word in str(caught.value)


def test_a_path_is_no_model_of_the_hub() -> None:
    assert is_hub_name("timm:a")
    assert is_hub_name("hf-hub:a/b")
    assert not is_hub_name("timm/a")
    assert not is_hub_name("/timm:a")
