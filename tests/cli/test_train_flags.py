import pytest

from megavit.cli.app import run
from megavit.cli.commands.demo import PARTS, remove_earlier
from megavit.errors import OutputError
from megavit.training.run_dir import PLAN


def test_a_name_that_is_too_long_is_a_message(capsys):
    assert run(["train", "x" * 300]) == 2
    assert "too long" in capsys.readouterr().err


def test_the_demo_removes_its_own_run_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr("megavit.training.run_dir.read_plan", lambda out: type("Plan", (), {"source": "demo:digits"}))
    remove_earlier(tmp_path / "nothing")
    for part in (*PARTS, PLAN):
        (tmp_path / part).mkdir() if "." not in part else (tmp_path / part).touch()
    (tmp_path / "precious.txt").touch()
    with pytest.raises(OutputError, match=r"precious\.txt"):
        remove_earlier(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(PARTS) + 2
    (tmp_path / "precious.txt").unlink()
    remove_earlier(tmp_path)
    assert not any(tmp_path.iterdir())
