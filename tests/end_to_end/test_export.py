"""`megavit export`, as a person runs it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.command_line import run_megavit, run_megavit_json


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that it wrote, and what it said."""
    folder = tmp_path_factory.mktemp("exported")
    done = run_megavit("export", run, "--to", "onnx", "--out", "digits-onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "digits-onnx", done.stdout


def test_it_says_what_it_proved_on_the_bundles_own_test_images(exported: tuple[Path, str], digits: Path) -> None:
    folder, said = exported
    assert f"test images of {digits}" in said and "4 of them at other sizes" in said
    assert (
        "get a different prediction, 0 are unlike the training images in one only. At most 0.001 and 0.001 are allowed"
        in said
    )
    names = ["README.md", "megavit-export.json", "model.onnx", "predict.py", "reference.npz"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_it_answers_as_the_bundle_does(exported: tuple[Path, str], run: Path, digits: Path) -> None:
    folder, _ = exported
    image = digits / "digit 1" / "003.png"
    mine, theirs = (run_megavit_json("predict", source, image, cwd=folder) for source in (folder, run))
    assert mine.keys() == theirs.keys() and mine["label"] == theirs["label"]
    assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)
    script = subprocess.run(
        [sys.executable, str(folder / "predict.py"), str(image)], capture_output=True, text=True, check=True
    )
    assert script.stdout.startswith(f"{image}: {theirs['label']} {theirs['probability']:.1%}")


def test_int8_is_judged_by_accuracy(run: Path, tmp_path: Path) -> None:
    found = run_megavit_json(
        "export",
        run,
        "--to",
        "openvino",
        "--precision",
        "int8",
        "--max-accuracy-drop",
        "40",
        "--out",
        "small",
        cwd=tmp_path,
    )
    assert found["accuracy"] is not None and found["accuracy_change"]["low"] <= found["accuracy_change"]["value"]
    assert found["bytes"] == sum((tmp_path / "small" / name).stat().st_size for name in ("model.xml", "model.bin"))


def test_other_data_can_prove_it(run: Path, digits: Path, tmp_path: Path) -> None:
    done = run_megavit("export", run, "--to", "openvino", "--out", "a", "--data", digits, cwd=tmp_path)
    assert done.returncode == 0 and f"images of {digits}" in done.stdout


def test_reference_images_are_used_where_the_data_is_gone(run: Path, tmp_path: Path) -> None:
    from tests.helpers.bundles import edit_bundle_info

    bundle = tmp_path / "moved"
    subprocess.run(["cp", "-r", str(run / "bundle"), str(bundle)], check=True)
    edit_bundle_info(bundle, lambda table: table["data"].update(source=str(tmp_path / "gone")))
    done = run_megavit("export", bundle, "--to", "openvino", "--out", "a", cwd=tmp_path)
    assert done.returncode == 0 and "reference images" in done.stdout
    int8 = run_megavit("export", bundle, "--to", "openvino", "--precision", "int8", "--out", "b", cwd=tmp_path)
    assert int8.returncode == 2 and "--data" in int8.stderr and not (tmp_path / "b").exists()


def test_mistakes_are_told_before_work(run: Path, exported: tuple[Path, str], digits: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for arguments, said in [
        (["--to", "onnx", "--out", "taken"], "choose a new folder"),
        (["--to", "tflite", "--out", "a"], "onnx"),
        (["--to", "onnx", "--precision", "bfloat16", "--out", "a"], "float32, float16, int8"),
        (["--to", "onnx", "--input", "bytes", "--out", "a"], '"pixels", "images"'),
        (["--to", "web", "--input", "images", "--out", "a"], "leave out --input"),
        (["--to", "onnx", "--data", "nowhere", "--out", "a"], "nowhere"),
    ]:
        done = run_megavit("export", run, *arguments, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    image = digits / "digit 1" / "003.png"
    verified = run_megavit("predict", exported[0], image, "--verify", cwd=tmp_path)
    assert verified.returncode == 2 and "leave out --device" in verified.stderr
    covered = run_megavit("predict", exported[0], image, "--coverage", "0.5", cwd=tmp_path)
    assert covered.returncode == 2 and "not 0.5" in covered.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_wrong_answer_is_an_exit_of_one(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from megavit.cli.app import run as command
    from megavit.exporting.targets import openvino

    real = openvino.build
    monkeypatch.setattr(openvino, "build", lambda model, right, product: real(model, replace(right, mean=0.9), product))
    assert command(["export", str(run), "--to", "openvino", "--out", str(tmp_path / "a"), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)["error"]
    assert said["type"] == "ExportError" and "nothing was written" in said["message"]
    assert not list(tmp_path.iterdir())
