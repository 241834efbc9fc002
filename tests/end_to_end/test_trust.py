"""Probabilities, sets and marks, as a person meets them on the command line."""

import csv
import json
import shutil

from tests.end_to_end.conftest import PER_CLASS
from tests.helpers.command_line import run_megavit, run_megavit_json
from tests.helpers.digits import make_digits_folder


def test_a_run_says_how_far_it_can_be_trusted(run):
    reported = json.loads((run / "bundle" / "megavit.json").read_text())["calibration"]
    assert reported["temperature"] > 0 and reported["images"] == 9 and reported["ood_threshold"] is not None
    assert 0 <= reported["test_metrics"]["calibrated"]["ece"]["value"] <= 1
    page = (run / "report.html").read_text()
    assert 'id="uncertainty"' in page and "out of distribution" in page
    assert (run / "figures" / "reliability.png").is_file()


def test_sets_and_marks_are_told_of_each_image(run, digits, tmp_path):
    shutil.copytree(digits / "digit 2", tmp_path / "images")
    done = run_megavit("predict", run, "images", "--coverage", "0.8", "--json", cwd=tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and lines
    for line in lines:
        assert line["prediction_set"][0]["label"] == line["label"]
        assert line["out_of_distribution"] in (True, False)
    written = run_megavit("predict", run, "images", "--coverage", "0.8", "--out", "a.csv", cwd=tmp_path)
    assert written.returncode == 0
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, line in zip(rows, lines, strict=True):
        assert row["prediction_set"] == "|".join(one["label"] for one in line["prediction_set"])
        assert row["out_of_distribution"] == str(line["out_of_distribution"]).lower()


def test_a_coverage_that_cannot_be_had_is_refused_before_anything_is_written(run, digits, tmp_path):
    for coverage, reason in (("0.99", "use a coverage of at most 0.9"), ("95", "between 0 and 1")):
        done = run_megavit("predict", run, digits, "--coverage", coverage, "--out", "a.csv", cwd=tmp_path)
        assert done.returncode == 2 and reason in done.stderr
        assert not (tmp_path / "a.csv").exists()


def test_a_bundle_can_be_calibrated_for_other_images(run, tmp_path):
    make_digits_folder(tmp_path / "more", range(3), slice(PER_CLASS, 2 * PER_CLASS), "digit ")
    found = run_megavit_json("calibrate", run, "more", "--out", "new", cwd=tmp_path)
    assert found["images"] == 27 and found["temperature"] > 0
    flags = ["--coverage", "0.95", "--verify", "--json"]
    one = run_megavit("predict", "new", "more/digit 0/000.png", *flags, cwd=tmp_path)
    assert one.returncode == 0 and json.loads(one.stdout)["prediction_set"]
    card = (tmp_path / "new" / "README.md").read_text()
    info = json.loads((tmp_path / "new" / "megavit.json").read_text())
    assert "recalibrated on 36 images of more; the figures above were measured on 27 other" in card
    assert f"**Right on {info['metrics']['accuracy']['value']:.1%}** of 27 test images" in card
    assert "Its probabilities were calibrated on 36 images" in card
    again = run_megavit("calibrate", run, "more", "--out", "new", cwd=tmp_path)
    assert again.returncode == 2 and "choose a new folder" in again.stderr
