"""Tables of path and label."""

from pathlib import Path

import pytest

from megavit.data.listing import Candidate
from megavit.data.samples import Skipped
from megavit.data.tables import list_table
from megavit.errors import DataError


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("path", ["path", "image", "File", "FILENAME"])
@pytest.mark.parametrize("label", ["label", "Class"])
def test_columns_have_several_names_and_delimiters(tmp_path, delimiter, path, label):
    text = f"{label}{delimiter}note{delimiter}{path}\ncat{delimiter}x{delimiter}a/1.png\n"
    listing = list_table(table(tmp_path, text))
    assert listing.root == tmp_path
    assert listing.candidates == (Candidate("a/1.png", "cat", None),)


def test_classes_are_sorted_and_splits_known_by_any_name(tmp_path):
    listing = list_table(table(tmp_path, "path,label,split\n1,dog,Train\n2,cat,VALIDATION\n3,cat,test\n"))
    assert listing.classes == ("cat", "dog")
    assert [found.split for found in listing.candidates] == ["train", "val", "test"]


def test_a_byte_order_mark_windows_lines_and_blank_lines_are_taken(tmp_path):
    listing = list_table(table(tmp_path, b"\xef\xbb\xbfpath, label\r\n\r\n1.png, \xc3\xa9mu\r\n\r\n"))
    assert listing.candidates == (Candidate("1.png", "ému", None),)


def test_quoted_names_may_hold_anything(tmp_path):
    listing = list_table(table(tmp_path, '"path","label"\n"a, ""b""\nc.png",cat\n'))
    assert listing.candidates[0].name == 'a, "b"\nc.png'


def test_the_same_line_twice_is_counted_once(tmp_path):
    listing = list_table(table(tmp_path, "path,label\n1,cat\n./1,cat\n2,dog\n"))
    assert [found.name for found in listing.candidates] == ["1", "2"]
    assert listing.skipped == (Skipped("1", "listed twice"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with ''. Expected a header"),
        ("1.png,cat\n", "begins with '1.png,cat'"),
        ("path,label\n", "names no images"),
        ("path,label\n1,cat\n,dog\n", "line 3: the path is empty"),
        ("path,label\n1,cat\n2,  \n", "line 3: the label is empty"),
        ("path,label\n1,cat,extra\n", "line 2: expected 2 columns as in the header, got 3"),
        ("path,label,split\n1,cat,later\n", "line 2: split must be one of train, val, test; got 'later'"),
        ("path,label,split\n1,cat,\n", "line 2: split must be"),
        ("path,label\n1,cat\n2,dog\n1,dog\n", "'1' in line 2 with the label 'cat' and in line 4 with 'dog'"),
        ("path,label,split\n1,cat,train\n1,cat,test\n", "line 2 with the split 'train' and in line 3 with 'test'"),
        ("path,file,label\n1,2,cat\n", "more than one column for the path"),
        ('path,label\n"1,cat\n', "check the quotation marks"),
        (b"path,label\n1,cat\n\xff,dog\n", "line 3: not UTF-8"),
        ("path,label\n1,cat\n".encode("utf-16"), "line 1: not UTF-8"),
    ],
)
def test_other_tables_are_refused_naming_the_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        list_table(table(tmp_path, text))


def test_a_missing_table_is_said(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        list_table(tmp_path / "none.csv")
