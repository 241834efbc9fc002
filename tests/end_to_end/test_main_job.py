import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from megavit.data.file_names import HIDDEN
from tests.end_to_end.conftest import PER_CLASS, QUICK
from tests.helpers.command_line import run_megavit, run_megavit_json


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_the_documentation_says(run):
    names = {path.name for path in run.iterdir()}
    assert names == {
        "plan.json",
        "recipe.toml",
        "samples.csv",
        "skipped.csv",
        "log.jsonl",
        "checkpoints",
        "bundle",
        "report.html",
        "figures",
    }
    assert {path.name for path in (run / "bundle").iterdir()} == {
        "model.safetensors",
        "megavit.json",
        "reference.safetensors",
        "calibration.safetensors",
        "samples.csv",
        "README.md",
    }
    drawn = {path.name for path in (run / "figures").iterdir()}
    assert drawn == {"curves.png", "confusion.png", "examples.png", "reliability.png"}


def test_what_was_skipped_is_told_with_its_reason(run):
    rows = {row["name"]: row["reason"] for row in table(run / "skipped.csv")}
    assert rows == {
        "digit 0/notes.txt": "not an image (.txt)",
        "digit 1/empty.png": "the file is empty",
        "digit 1/.DS_Store": HIDDEN,
    }
    reported = (run.parent / "reported.txt").read_text()
    assert "1 file skipped: the file is empty" in reported and "90 images of 3 classes" in reported


def test_every_image_is_in_one_split_and_every_class_in_each(run):
    rows = table(run / "samples.csv")
    assert len({row["name"] for row in rows}) == len(rows) == 3 * PER_CLASS
    assert {(row["label"], row["split"]) for row in rows} == {
        (f"digit {label}", split) for label in range(3) for split in ("train", "val", "test")
    }


def test_evaluate_knows_the_training_images_by_content_and_agrees_with_predict(run, digits, tmp_path):
    answer = run_megavit_json("evaluate", run, digits, cwd=tmp_path)
    rows = table(run / "samples.csv")
    test = [row for row in rows if row["split"] == "test"]
    assert answer["data"]["excluded_as_seen_in_training"] == len(rows) - len(test)
    assert answer["metrics"]["images"] == len(test)
    trained = json.loads((run / "bundle" / "megavit.json").read_text())["metrics"]
    assert answer["metrics"]["accuracy"] == trained["accuracy"]

    paths = "".join(f"{digits / row['name']}\n" for row in test).encode()
    done = run_megavit("predict", run, "-", "--json", cwd=tmp_path, stdin=paths)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    right = sum(answer["label"] == row["label"] for answer, row in zip(answers, test, strict=True))
    assert right / len(test) == pytest.approx(trained["accuracy"]["value"])


def test_predict_answers_for_the_readable_and_says_why_not_for_the_others(run, digits, tmp_path):
    done = run_megavit("predict", run, digits, "no such.png", "--json", cwd=tmp_path)
    answers = {answer["path"]: answer for answer in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 2
    errors = {path: answer["error"] for path, answer in answers.items() if "error" in answer}
    assert errors == {
        str(digits / "digit 0" / "notes.txt"): "not an image",
        str(digits / "digit 1" / "empty.png"): "the file is empty",
        "no such.png": "no such file",
    }
    assert len(answers) - len(errors) == 3 * PER_CLASS
    good = answers[str(digits / "digit 0" / "000.png")]
    assert good["label"] == good["top"][0]["label"] and good["probability"] == good["top"][0]["probability"]
    assert sum(entry["probability"] for entry in good["top"]) == pytest.approx(1)


def test_predict_takes_an_image_on_standard_input_and_patterns(run, digits, tmp_path):
    image = (digits / "digit 0" / "000.png").read_bytes()
    one = run_megavit("predict", run, "-", "--json", cwd=tmp_path, stdin=image)
    assert json.loads(one.stdout)["path"] == "-" and one.returncode == 0
    pattern = run_megavit("predict", run, digits / "*" / "00?.png", "--json", cwd=tmp_path)
    assert len(pattern.stdout.splitlines()) == 30


def test_csv_and_jsonl_hold_the_same_answers_and_an_old_file_is_not_overwritten(run, digits, tmp_path):
    folder = digits / "digit 1"
    for name in ("a.csv", "a.jsonl"):
        assert run_megavit("predict", run, folder, "--top", "2", "--out", name, cwd=tmp_path).returncode == 2
    rows = table(tmp_path / "a.csv")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(rows) == len(lines) == PER_CLASS + 1
    for row, line in zip(rows, lines, strict=True):
        assert row["path"] == line["path"]
        assert row["error"] == line.get("error", "")
        if not row["error"]:
            assert row["label"] == line["label"] and row["label_2"] == line["top"][1]["label"]
            assert float(row["probability"]) == pytest.approx(line["probability"], abs=1e-6)
    again = run_megavit("predict", run, folder, "--out", "a.csv", cwd=tmp_path)
    assert again.returncode == 2 and "a.csv already exists" in again.stderr


def test_the_bundle_works_from_python_in_three_lines_and_in_another_place(run, digits, tmp_path):
    shutil.copytree(run / "bundle", tmp_path / "elsewhere")
    script = (
        "import megavit\n"
        "predictor = megavit.load('elsewhere', verify=True)\n"
        f"print(predictor.predict({str(digits / 'digit 0' / '000.png')!r}).label)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert done.stdout.strip() in {"digit 0", "digit 1", "digit 2"}


def test_a_second_run_does_not_touch_the_first(run, digits):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    refused = run_megavit("train", digits, "--out", run, *QUICK, cwd=run.parent)
    assert refused.returncode == 2 and "already contains a run" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_table_with_splits_trains_as_it_says(digits, tmp_path):
    lines = ["path,label,split"]
    for label in range(3):
        for i in range(12):
            split = ("test", "val", "train")[min(i, 2)] if i < 3 else "train"
            lines.append(f"{digits / f'digit {label}' / f'{i:03}.png'},class {label},{split}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    answer = run_megavit_json("train", "table.csv", *QUICK, cwd=tmp_path)
    assert answer["test"]["images"] == 3 and answer["test"]["classes"] == ["class 0", "class 1", "class 2"]
    assert answer["run"] == str(Path("runs") / "table")


def test_the_demo_replaces_its_own_run_and_no_other(run, tmp_path):
    refused = run_megavit("demo", "--out", run, cwd=tmp_path)
    assert refused.returncode == 2 and "not a demo" in refused.stderr
