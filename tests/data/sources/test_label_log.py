"""The log of megavit label is read as it is: the last line of an image counts, and a torn last line harms nothing."""

from pathlib import Path

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.data.sources.label_log import (
    LABEL_LOG,
    Decision,
    Status,
    format_decisions,
    format_header,
    is_label_log,
    list_label_log,
    parse_label_log,
)
from megavit.errors import DataError
from tests.helpers.page_images import encode_image, make_noise


def decide(path: str, *labels: str, status: Status = "labeled", stroke: str = "1", split: str = "") -> Decision:
    return Decision(path, labels, status, split, "ada", "2026-01-01T00:00:00+00:00", "dog", "0.61", stroke)


DECISIONS = (
    decide("a.jpg", "cat"),
    decide('b,"1".jpg', "=dog", stroke="2"),
    decide("a.jpg", status="unlabeled", stroke="3"),
    decide("sub/c.jpg", "<b>cat</b>", stroke="4"),
)


def write_log(folder: Path, *decisions: Decision) -> Path:
    path = folder / LABEL_LOG
    path.write_bytes(format_header("classification") + format_decisions(decisions, "classification"))
    return path


def test_a_log_cut_at_any_byte_gives_its_whole_lines() -> None:
    header = format_header("classification")
    data = header + format_decisions(DECISIONS, "classification")
    ends = [len(header) + len(format_decisions(DECISIONS[:count], "classification")) for count in range(5)]
    for cut in range(len(header), len(data) + 1):
        log = parse_label_log(data[:cut], "log")
        whole = sum(end - 1 <= cut for end in ends) - 1  # a line may lack its line break
        assert log.decisions == DECISIONS[:whole]
        assert log.is_torn == (cut not in ends and cut + 1 not in ends)


def test_labels_are_joined_as_in_other_tables() -> None:
    decisions = (decide("a.jpg", "cat", "in|doors"), decide("b.jpg", stroke="2"))
    data = format_header("multilabel") + format_decisions(decisions, "multilabel")
    assert parse_label_log(data, "log").decisions == decisions


def test_a_damaged_line_in_the_middle_is_named() -> None:
    data = format_header("classification") + b'"a.jpg","cat\n' + format_decisions(DECISIONS, "classification")
    with pytest.raises(DataError, match="line 2"):
        parse_label_log(data, "log")


def test_a_log_that_a_spreadsheet_saved_with_semicolons_is_refused_and_not_overlooked(tmp_path: Path) -> None:
    path = write_log(tmp_path, *DECISIONS)
    path.write_bytes(path.read_bytes().replace(b",", b";"))
    assert is_label_log(path)
    with pytest.raises(DataError, match="with commas"):
        list_label_log(path)


def test_a_table_of_another_kind_is_no_log(tmp_path: Path) -> None:
    (tmp_path / LABEL_LOG).write_text("path,label\na.jpg,cat\n")
    assert not is_label_log(tmp_path / LABEL_LOG)
    assert not is_label_log(tmp_path / "missing.csv")


def test_the_last_decision_on_an_image_counts(tmp_path: Path) -> None:
    for name in ("a.jpg", "d.jpg", "e.jpg"):
        (tmp_path / name).write_bytes(b"")
    path = write_log(tmp_path, *DECISIONS, decide("d.jpg", status="excluded", stroke="5"))
    listing = list_label_log(path)
    assert [(one.name, one.target) for one in listing.candidates] == [
        ('b,"1".jpg', "=dog"),
        ("sub/c.jpg", "<b>cat</b>"),
    ]
    assert [(one.name, one.reason) for one in listing.skipped] == [
        ("a.jpg", "its label was undone"),
        ("d.jpg", "marked as not an image of this task when labeling"),
    ]
    assert listing.classes == ("<b>cat</b>", "=dog")
    assert "1 images of the folder have no label in labels.csv and are left out, such as e.jpg" in listing.notes


def test_a_log_without_labels_says_how_to_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="megavit label"):
        list_label_log(write_log(tmp_path, decide("a.jpg", status="skipped")))


def test_a_folder_with_a_log_is_loaded_by_it_and_not_by_its_folders(tmp_path: Path) -> None:
    decisions = []
    for index in range(12):
        name = f"{'summer' if index % 2 else 'winter'}/{index}.jpg"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode_image(make_noise(seed=index)))
        decisions.append(decide(name, "dark" if index < 6 else "light", stroke=str(index)))
    path = write_log(tmp_path, *decisions)
    for source in (tmp_path, path):
        images = load_data(source, DataRecipe())
        assert images.classes == ("dark", "light")
        assert len(images.samples) == 12
