"""Columns of 0 and 1, one for each class, are read where that is certain, in tables and in records."""

import json
from pathlib import Path

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.data.scan import Candidate
from megavit.data.sources.records.files import list_record_file
from megavit.data.sources.table import list_table, read_column
from megavit.errors import DataError


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "data.csv"
    path.write_text(text)
    return path


def records(tmp_path: Path, text: str) -> Path:
    """The same as lines of JSON, with numbers as numbers."""
    names, *rows = (line.split(",") for line in text.split())
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(dict(zip(names, map(number, row), strict=True))) for row in rows))
    return path


def number(cell: str) -> object:
    return json.loads(cell) if cell[:1].isdigit() and cell[1:2] != "." else cell


@pytest.fixture(params=["table", "records"])
def listed(request, tmp_path):
    def list_text(text: str):
        if request.param == "table":
            return list_table(table(tmp_path, text))
        return list_record_file(records(tmp_path, text), DataRecipe())

    return list_text


def test_one_in_each_row_is_the_class_of_the_image(listed):
    listing = listed("image,MEL,NV,UNK,split\na,1,0,0,train\nb,0,1,0,test\n")
    assert listing.candidates == (Candidate("a", "MEL", "train"), Candidate("b", "NV", "test"))
    assert (listing.target, listing.classes) == ("classification", ("MEL", "NV"))
    assert listing.notes == (
        "the columns MEL, NV, UNK are read as one for each class, of 0 and 1",
        "no image is of UNK: the model will not know these classes",
    )


def test_several_in_some_row_are_any_number_of_labels(listed):
    listing = listed("id,cat,indoors\na,1,0\nb,1,1\nc,0,0\n")
    assert [found.target for found in listing.candidates] == [("cat",), ("cat", "indoors"), ()]
    assert listing.target == "multilabel"
    assert "some images have several, so an image may have any number of labels" in listing.notes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "id,cat,dog\na,1,0\nb,0,0\n",
            r"of none of the classes cat, dog, as 1 of 2 images.*add a column, such as other",
        ),
        ("id,cat,dog\na,1,0\nb,2,0\n", r"(line 3|row 1).*'cat' is '?2'?, but .* was read as a class.*--label-column"),
        ("id,cat,dog\na,.7,.3\n", "not clear from their names.*columns of 0 and 1, one for each class, are read if"),
        ("id,age,dog\na,50,1\nb,1,0\n", "not clear from their names, id, age, dog: name them"),
        ("id,cat,dog\na,1,0\na,0,1\n", "list"),
    ],
)
def test_what_may_mean_something_else_is_refused_with_what_to_do(listed, text, said):
    with pytest.raises(DataError, match=f"(?s){said}"):
        listed(text)


def test_a_table_of_nothing_but_a_header_has_unknown_columns(tmp_path):
    with pytest.raises(DataError, match="not clear from their names"):
        list_table(table(tmp_path, "id,cat,dog\n"))


def test_a_column_of_0_and_1_may_define_subgroups(tmp_path):
    assert read_column(table(tmp_path, "id,cat,dog\na,1,0\nb,0,1\n"), "dog") == {"a": "0", "b": "1"}


def test_two_columns_of_one_name_are_not_two_classes(tmp_path):
    with pytest.raises(DataError, match="not clear from their names"):
        load_data(table(tmp_path, "id,cat,cat\na,1,0\nb,0,1\n"), DataRecipe())
