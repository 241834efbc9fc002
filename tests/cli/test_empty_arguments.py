"""An unset variable does not name the current folder."""

import pytest

from megavit.cli.app import run


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("empty", ["", " ", "\t"])
@pytest.mark.parametrize(
    ("before", "arguments"),
    [
        ("train", ["train", "{}"]),
        ("--out", ["train", "demo:digits", "--out", "{}"]),
        ("--out", ["train", "demo:digits", "--out={}"]),
        ("--resume", ["train", "--resume", "{}"]),
        ("check", ["check", "{}"]),
        ("predict", ["predict", "{}", "1.png"]),
        ("bundle", ["evaluate", "bundle", "{}"]),
        ("--report", ["evaluate", "bundle", "data", "--report", "{}"]),
        ("embed", ["embed", "{}", "1.png"]),
        ("--out", ["explain", "bundle", "1.png", "--out", "{}"]),
        ("--out", ["export", "bundle", "--to", "onnx", "--out", "{}"]),
        ("serve", ["serve", "{}"]),
        ("shard", ["shard", "{}", "--out", "x"]),
        ("convert", ["convert", "{}", "--out", "x"]),
        ("calibrate", ["calibrate", "{}", "data", "--out", "x"]),
        ("quantize", ["quantize", "{}", "data", "--out", "x"]),
    ],
)
@pytest.mark.usefixtures("inside")
def test_an_empty_argument_is_refused_by_every_command(before, arguments, empty, tmp_path, capsys):
    assert run([argument.format(empty) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err == (
        f"megavit: the argument after {before} is empty, probably an unset variable: pass a name, or . for the "
        "current folder\n"
    )
    assert list(tmp_path.iterdir()) == []
