"""`megavit quantize`, as a person runs it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from megavit.serving.backends.predictor import PredictorBackend
from megavit.serving.settings import WorkerSettings
from megavit.weights.bundle.bundle import copy_bundle, read_info
from tests.helpers.command_line import run_megavit, run_megavit_json


@pytest.fixture(scope="module")
def quantized(run: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The bundle that it wrote, and what it said."""
    folder = tmp_path_factory.mktemp("quantized")
    done = run_megavit("quantize", run, digits, "--out", "small", "--max-accuracy-drop", "40", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "small", done.stdout


def test_it_says_what_int8_costs_and_the_bundle_keeps_it(quantized: tuple[Path, str]) -> None:
    bundle, reported = quantized
    info = json.loads((bundle / "megavit.json").read_text())
    measured = info["int8"]["measured"]
    assert f"accuracy on {measured['images']} images: {measured['float32']:.2%} in float32" in reported
    assert "single images, on this machine: " in reported and "batches of 16, on this machine: " in reported
    assert "small: " in reported.splitlines()[-1] and "--precision" in reported.splitlines()[-1]
    assert [speed["batch"] for speed in info["int8"]["speeds"]] == [1, 16]
    assert "speeds" not in measured, "which are of one machine"
    assert measured["change"]["low"] <= measured["change"]["value"] <= measured["change"]["high"]
    assert measured["change"]["value"] == pytest.approx(measured["int8"] - measured["float32"])
    assert 0 <= measured["ood_changed"] <= 0.05 * measured["images"] + 1
    assert f"; {measured['ood_changed']} are unlike the training images in one only" in reported
    assert 0 < measured["images"] < 90  # what the model learned from is left out
    assert all(bound > 0 for bound in info["int8"]["bounds"])


def test_the_card_says_what_int8_costs(quantized: tuple[Path, str], run: Path) -> None:
    card = (quantized[0] / "README.md").read_text()
    measured = json.loads((quantized[0] / "megavit.json").read_text())["int8"]["measured"]
    assert f"With `--precision int8` it is right on {measured['int8']:.2%} of {measured['images']} images" in card
    assert "int8" not in (run / "bundle" / "README.md").read_text()


def test_answers_in_int8_are_near_those_in_float32(quantized: tuple[Path, str], digits: Path, tmp_path: Path) -> None:
    bundle, _ = quantized
    image = digits / "digit 1" / "003.png"
    found = {
        precision: {one["label"]: one["probability"] for one in answer["top"]}
        for precision in ("float32", "int8")
        for answer in [run_megavit_json("predict", bundle, image, "--precision", precision, cwd=tmp_path)]
    }
    apart = [abs(found["int8"][label] - probability) for label, probability in found["float32"].items()]
    assert 0 < max(apart) < 0.1


@pytest.mark.parametrize(
    ("faster", "processor", "is_said"), [(False, None, True), (True, None, False), (False, "another", False)]
)
def test_what_was_measured_to_be_slow_here_is_said(
    quantized: tuple[Path, str], digits: Path, tmp_path: Path, faster: bool, processor: str | None, is_said: bool
) -> None:
    info = read_info(quantized[0])
    speeds = [
        {"batch": batch, "seconds": {"float32": 0.02, "int8": 0.03}, "alternative": "float32", "faster": faster}
        for batch in (1, 16)
    ]
    int8 = info.int8 | {"speeds": speeds, "processor": processor or info.int8["processor"]}
    copy_bundle(quantized[0], tmp_path / "slow", replace(info, int8=int8))
    said = [
        run_megavit("predict", "slow", digits / "digit 1" / "003.png", "--precision", precision, cwd=tmp_path).stderr
        for precision in ("int8", "float32")
    ]
    sentence = (
        "int8 did not pay on this processor when the bundle was quantized: single images take 30.0 ms, in float32 20.0 "
        "ms; batches of 16 take 30.0 ms, in float32 20.0 ms\n"
    )
    assert said == [sentence if is_said else "", ""]
    if is_said:
        settings = WorkerSettings(str(tmp_path / "slow"), "cpu", "int8", False, 32, 10**6, 1.0)
        assert PredictorBackend(settings).note == sentence.strip()


def test_what_loses_more_than_it_may_is_not_written(run: Path, digits: Path, tmp_path: Path, monkeypatch) -> None:
    from megavit.cli.app import run as command
    from megavit.exporting import quantization as module

    monkeypatch.setattr(
        module, "bootstrap_accuracy_difference", lambda before, after: module.Interval(-0.02, -0.03, -0.01)
    )
    assert command(["quantize", str(run), str(digits), "--out", str(tmp_path / "small")]) == 1
    assert not (tmp_path / "small").exists()


def test_mistakes_are_told_before_anything_is_measured(run: Path, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    taken = run_megavit("quantize", run, digits, "--out", "taken", cwd=tmp_path)
    assert taken.returncode == 2 and "choose a new folder" in taken.stderr
    unknown = run_megavit("predict", run, digits / "digit 1" / "003.png", "--precision", "int8", cwd=tmp_path)
    assert unknown.returncode == 2 and "megavit quantize" in unknown.stderr
    wrong = run_megavit("predict", run, digits / "digit 1" / "003.png", "--precision", "int4", cwd=tmp_path)
    assert wrong.returncode == 2 and '"float32", "bfloat16", "int8"' in wrong.stderr
