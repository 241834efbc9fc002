"""Each function does what the command of its name does, and returns it as an object."""

import json
from pathlib import Path

import pytest

import megavit
from megavit.cli.app import run as run_command
from megavit.errors import ConfigError, DataError, OutputError
from megavit.training.progress import NullReporter
from tests.helpers.bundles import make_bundle, make_model
from tests.helpers.digits import make_digits_folder


class Listening(NullReporter):
    """A reporter that remembers what was said to be worked on."""

    def __init__(self) -> None:
        self.works: dict[str, tuple[int, int]] = {}

    def progress(self, what: str, done: int, total: int) -> None:
        self.works[what] = (done, total)


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    run_command([*map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a few digits, as files."""
    return make_digits_folder(tmp_path_factory.mktemp("digits") / "digits", range(3), slice(30))


def test_evaluate_measures_and_shows_its_progress(run: megavit.Run, capsys: pytest.CaptureFixture[str]) -> None:
    listening = Listening()
    evaluation = megavit.evaluate(run, "demo:digits", reporter=listening)
    assert evaluation.metrics.to_dict() == run.metrics.to_dict()
    assert listening.works["evaluating"] == (179, 179)
    assert json.loads(json.dumps(evaluation.to_dict())) == output_of(capsys, "evaluate", run.folder, "demo:digits")


def test_evaluate_compares_two_bundles_and_writes_a_page(run: megavit.Run, tmp_path: Path) -> None:
    evaluation = megavit.evaluate(run, "demo:digits", against=run.bundle)
    assert evaluation.comparison is not None and evaluation.comparison.better == "neither"
    assert evaluation.to_dict()["comparison"]["against"] == str(run.bundle)
    page = evaluation.write_report(tmp_path / "page.html").read_text("utf-8")
    assert f"Evaluation of {run.folder}" in page
    with pytest.raises(ConfigError, match="batch_size must be an integer of at least 1, got 0"):
        megavit.evaluate(run, "demo:digits", batch_size=0)
    with pytest.raises(DataError, match="--group-by writer needs a table"):
        megavit.evaluate(run, "demo:digits", group_by="writer")


def test_check_returns_what_it_found_and_why_labels_were_left_out(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = megavit.check(digits, out=tmp_path / "checked", skip_labels=True)
    assert result.skip_reason == "--skip-labels was given" and result.label_review is None
    assert (tmp_path / "checked" / "check.csv").is_file()
    printed = output_of(capsys, "check", digits, "--skip-labels")
    assert printed["findings"] == [finding.to_dict() for finding in result.findings]
    with pytest.raises(ConfigError, match="leave out one of them"):
        megavit.check(digits, skip_labels=True, minutes=1)


def test_check_finds_label_errors_with_a_bundle(run: megavit.Run, digits: Path) -> None:
    result = megavit.check(digits, bundle=run)
    assert result.skip_reason == "" and result.label_review is not None


def test_calibrate_writes_a_bundle(run: megavit.Run, tmp_path: Path) -> None:
    result = megavit.calibrate(run, "demo:digits", out=tmp_path / "calibrated")
    loaded = megavit.load(tmp_path / "calibrated")
    assert loaded.info.calibration.temperature == result.calibration.temperature
    with pytest.raises(OutputError, match="already exists"):
        megavit.calibrate(run, "demo:digits", out=tmp_path / "calibrated")


def test_quantize_writes_a_bundle_only_if_little_is_lost(run: megavit.Run, tmp_path: Path) -> None:
    quantization = megavit.quantize(run, "demo:digits", out=tmp_path / "int8", max_accuracy_drop=100)
    assert quantization.folder == tmp_path / "int8"
    assert megavit.load(tmp_path / "int8", precision="int8").predict(bytes_of_a_digit()).label
    described = quantization.to_dict()
    assert described["out"] == str(tmp_path / "int8")
    assert [speed["batch"] for speed in described["speeds"]] == [1, 16]
    with pytest.raises(ConfigError, match="max_accuracy_drop must be a number from 0 to 100"):
        megavit.quantize(run, "demo:digits", out=tmp_path / "other", max_accuracy_drop=-1)


def bytes_of_a_digit() -> bytes:
    from io import BytesIO

    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    buffer = BytesIO()
    Image.fromarray((load_digits(return_X_y=True)[0][0].reshape(8, 8) * 255 / 16).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_export_is_a_folder_that_can_be_loaded(run: megavit.Run, tmp_path: Path) -> None:
    exported = megavit.export(run, to="onnx", out=tmp_path / "onnx")
    assert exported.num_bytes > 100_000 and "images" in exported.description
    assert exported.to_dict()["to"] == "onnx" and exported.to_dict()["out"] == str(tmp_path / "onnx")
    ours, theirs = run.load().predict(bytes_of_a_digit()), megavit.load_exported(exported).predict(bytes_of_a_digit())
    assert theirs.label == ours.label and theirs.probability == pytest.approx(ours.probability, abs=1e-4)


def test_convert_goes_to_another_library_and_back(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", make_model(design=megavit.PLAIN_VIT, pool="cls"))
    there = megavit.convert(tmp_path / "bundle", to="huggingface", out=tmp_path / "hf")
    assert there.format == "huggingface" and there.source_format == "megavit" and there.image_size == (8, 8)
    back = megavit.convert(there, out=tmp_path / "back", class_names=["a", "b", "c"])
    assert back.target == "classification" and json.loads(json.dumps(back.to_dict()))["image_size"] == [8, 8]
    assert megavit.load(back).labels == ("a", "b", "c")
    with pytest.raises(ConfigError, match="--class-names names 2 classes, but the model has 3"):
        megavit.convert(there, out=tmp_path / "other", class_names=["a", "b"])
    with pytest.raises(ConfigError, match="leave it out"):
        megavit.convert(there, out=tmp_path / "other", drop_calibration=True)
