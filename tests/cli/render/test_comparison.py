import csv
import json
from pathlib import Path

import pytest

from megavit.cli.render.comparison import check_disagreements_file, check_new, write_disagreements
from megavit.errors import OutputError
from megavit.evaluate.compare import Disagreement

FOUND = [
    Disagreement('odd "name",\nof a file\udce9.png', "cat, big", "cat, big", 0.75, "dog", 0.5, "A"),
    Disagreement("b.png", "3.5", "3", None, "4", None, "both"),
]


def test_a_csv_has_a_column_for_everything_and_survives_odd_names(tmp_path: Path) -> None:
    write_disagreements(tmp_path / "a.csv", FOUND)
    with (tmp_path / "a.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, first, second = csv.reader(file)
    assert header == ["path", "truth", "prediction_a", "probability_a", "prediction_b", "probability_b", "correct"]
    assert first == [FOUND[0].path, "cat, big", "cat, big", "0.750000", "dog", "0.500000", "A"]
    assert second == ["b.png", "3.5", "3", "", "4", "", "both"]


def test_jsonl_has_a_line_an_image(tmp_path: Path) -> None:
    write_disagreements(tmp_path / "a.jsonl", FOUND)
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first["path"] == FOUND[0].path and first["probability_b"] == 0.5
    assert second["probability_a"] is None and second["correct"] == "both"


def test_what_is_there_is_not_touched_and_is_told_before_any_work(tmp_path: Path) -> None:
    taken = tmp_path / "a.csv"
    taken.write_text("mine")
    for attempt in (
        lambda: check_disagreements_file(taken),
        lambda: write_disagreements(taken, FOUND),
        lambda: check_new(taken, "it"),
    ):
        with pytest.raises(OutputError, match="is there already"):
            attempt()
    assert taken.read_text() == "mine"
    with pytest.raises(OutputError, match="there is no folder"):
        check_new(tmp_path / "none" / "a.html", "the report")
    with pytest.raises(OutputError, match=r"\.csv or \.jsonl"):
        check_disagreements_file(tmp_path / "a.xlsx")
