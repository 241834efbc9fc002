"""Backbones on this machine: the folder of the setting comes first, and halves do not count."""

from pathlib import Path

import huggingface_hub.constants
import pytest

from megavit.errors import ConfigError
from megavit.weights.backbones.local import fetched_folder, find_backbone, find_backbones
from tests.helpers.backbones import HUB, WHEEL, make_folder, make_hub_cache, make_row, make_wheel, use_table

ROW = make_row(HUB, f"timm:{HUB}")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_nothing_is_found_unless_a_test_says_otherwise() -> None:
    assert list(find_backbones()) == []


def test_the_cache_of_the_hub_counts(hub_cache: Path) -> None:
    assert find_backbone(ROW) is None
    folder = make_hub_cache(hub_cache, HUB)
    assert find_backbone(ROW) == folder


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_half_written_cache_does_not_count(hub_cache: Path, missing: str) -> None:
    folder = make_hub_cache(hub_cache, HUB)
    (folder / missing).rename(folder.parent / f"{missing}.incomplete")
    assert find_backbone(ROW) is None


def test_a_link_to_weights_that_are_gone_does_not_count(hub_cache: Path) -> None:
    folder = make_hub_cache(hub_cache, HUB)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/gone")
    assert find_backbone(ROW) is None


def test_the_folder_of_the_setting_comes_first(hub_cache: Path, tmp_path, monkeypatch) -> None:
    other = make_wheel(tmp_path / "wheels", b"")
    use_table(monkeypatch, ROW, other)
    cached = make_hub_cache(hub_cache, HUB)
    mine = make_folder(tmp_path / "mine" / WHEEL)
    monkeypatch.setenv("MEGAVIT_BACKBONES", str(tmp_path / "mine"))
    assert [(found.backbone.name, found.path) for found in find_backbones()] == [(WHEEL, mine), (HUB, cached)]


def test_a_setting_that_names_no_folder_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEGAVIT_BACKBONES", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"MEGAVIT_BACKBONES is .*gone, which is not a folder"):
        find_backbone(ROW)


def test_what_megavit_fetches_lies_in_the_cache_of_the_user(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MEGAVIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetched_folder() == tmp_path / "megavit" / "backbones"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert fetched_folder() == Path.home() / ".cache" / "megavit" / "backbones"
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "own"))
    assert fetched_folder() == tmp_path / "own" / "backbones"
