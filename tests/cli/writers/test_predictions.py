import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from megavit.cli.writers.predictions import PredictionWriter
from megavit.errors import OutputError
from megavit.predict.prediction import Prediction, PredictionResult

NAME = 'odd "name", with\na line\udce9.png'
GOOD = PredictionResult(NAME, Prediction(top=(("cat, big", 0.75), ("dog", 0.25))), None)
BAD = PredictionResult("b.png", None, "the file is empty")


def write(path: Path, answers: list[PredictionResult], top: int) -> None:
    with PredictionWriter(path, as_json=False, top=top) as writer:
        for answer in answers:
            writer.write(answer)


@pytest.mark.parametrize("top", [1, 2, 4])
def test_every_row_has_a_cell_for_every_column(tmp_path, top):
    cut = PredictionResult(NAME, Prediction(top=GOOD.prediction.top[:top]), None) if GOOD.prediction else GOOD
    write(tmp_path / "a.csv", [cut, BAD], top)
    with (tmp_path / "a.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, good, bad = csv.reader(file)
    assert len(header) == len(good) == len(bad) == 3 + 2 * top
    assert good[:3] == [NAME, "cat, big", "0.750000"] and good[-1] == ""
    assert bad == ["b.png", *[""] * (2 * top + 1), "the file is empty"]


def test_a_prediction_is_in_the_file_before_the_next_one_is_computed(tmp_path):
    with PredictionWriter(tmp_path / "a.jsonl", as_json=False, top=2) as writer:
        for count, answer in enumerate([GOOD, BAD], start=1):
            writer.write(answer)
            lines = (tmp_path / "a.jsonl").read_text().splitlines()
            assert len(lines) == count and json.loads(lines[-1]) == answer.to_dict()


def test_a_file_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        write(tmp_path / "a.csv", [GOOD], 2)
    assert (tmp_path / "a.csv").read_text() == "mine"


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match="another path"):
        write(tmp_path / "nowhere" / "a.csv", [GOOD], 1)


def test_multilabel_and_regression_have_their_own_columns(tmp_path):
    top = (("cat", 0.75), ("dog", 0.5))
    labels = PredictionResult("a.png", Prediction(top=top, assigned=top), None)
    none = PredictionResult("b.png", Prediction(top=top, assigned=()), None)
    with PredictionWriter(tmp_path / "labels.csv", as_json=False, top=3, target="multilabel") as writer:
        for answer in (labels, none, BAD):
            writer.write(answer)
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert [row["labels"] for row in rows] == ["cat|dog", "", ""]
    assert rows[1]["label_2"] == "dog" and rows[1]["probability_2"] == "0.500000" and rows[1]["label_3"] == ""
    assert [row["error"] for row in rows] == ["", "", "the file is empty"]

    with PredictionWriter(tmp_path / "score.csv", as_json=False, top=3, target="regression") as writer:
        writer.write(PredictionResult("a.png", Prediction(value=0.1), None))
        writer.write(BAD)
    assert (
        tmp_path / "score.csv"
    ).read_text() == "path,score,out_of_distribution,error\na.png,0.1,,\nb.png,,,the file is empty\n"


def test_on_the_terminal_every_prediction_is_one_line(capsys):
    top = (("cat", 0.75), ("dog", 0.25))
    with PredictionWriter(None, as_json=False, top=2, target="multilabel") as writer:
        writer.write(PredictionResult("a.png", Prediction(top=top, assigned=top[:1]), None))
        writer.write(PredictionResult("b.png", Prediction(top=top, assigned=()), None))
    with PredictionWriter(None, as_json=False, top=2, target="regression") as writer:
        writer.write(PredictionResult("c.png", Prediction(value=1234.56), None))
    assert capsys.readouterr().out == "a.png  cat 75.0%\nb.png  no label\nc.png  1235\n"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_full_disk_leaves_no_file_that_refuses_the_next_run(name, tmp_path):
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from tests.cli.writers.test_predictions import GOOD, write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "write(Path(sys.argv[1]), [GOOD], 2)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], capture_output=True, check=False)
    assert b"OutputError" in done.stderr and not (tmp_path / name).exists()
    write(tmp_path / name, [GOOD], 2)
