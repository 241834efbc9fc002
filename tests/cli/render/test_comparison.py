import csv
import json
from pathlib import Path

import pytest

from megavit.cli.render.comparison import write_disagreements
from megavit.cli.writers.line_file import check_new_file
from megavit.errors import OutputError
from megavit.evaluation.compare import Disagreement

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


def test_jsonl_has_one_line_per_image(tmp_path: Path) -> None:
    write_disagreements(tmp_path / "a.jsonl", FOUND)
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first["path"] == FOUND[0].path and first["probability_b"] == 0.5
    assert second["probability_a"] is None and second["correct"] == "both"


def test_an_existing_file_is_kept_and_refused_before_any_work(tmp_path: Path) -> None:
    existing = tmp_path / "a.csv"
    existing.write_text("mine")
    for attempt in (lambda: check_new_file(existing, "lists", (".csv",)), lambda: write_disagreements(existing, FOUND)):
        with pytest.raises(OutputError, match="already exists"):
            attempt()
    assert existing.read_text() == "mine"
    with pytest.raises(OutputError, match="there is no folder"):
        check_new_file(tmp_path / "none" / "a.html", "reports", (".html",))
    with pytest.raises(OutputError, match=r"lists are written as \.csv or \.jsonl"):
        check_new_file(tmp_path / "a.xlsx", "lists", (".csv", ".jsonl"))
