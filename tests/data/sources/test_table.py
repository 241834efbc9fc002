"""Tables of path and label."""

import csv
import subprocess
import unicodedata
from pathlib import Path

import pytest

from megavit.data.dataset import Skipped
from megavit.data.scan import Candidate
from megavit.data.sources.table import list_table, read_column
from megavit.errors import DataError
from megavit.runtime.csv_files import csv_text


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
        ("path,label\n", "lists no images"),
        ("path,label\n1,cat\n,dog\n", "line 3: the path is empty"),
        ("path,label\n1,cat\n2,  \n", "line 3: the label is empty"),
        ("path,label\n1,cat,extra\n", "line 2: expected 2 columns as in the header, got 3"),
        ("path,label,split\n1,cat,later\n", "line 2: split must be one of train, val, test; got 'later'"),
        ("path,label,split\n1,cat,\n", "line 2: split must be"),
        ("path,label\n1,cat\n2,dog\n1,dog\n", "'1' in line 2 with the label 'cat' and in line 4 with 'dog'"),
        ("path,label,split\n1,cat,train\n1,cat,test\n", "line 2 with the split 'train' and in line 3 with 'test'"),
        ("path,file,label\n1,2,cat\n", "more than one column for the path"),
        ('path,label\n"1,cat\n', "check the quotation marks"),
        ("path,label\n1,cat\n".encode("utf-16-le"), "without a byte order mark.*iconv -f UTF-16LE -t UTF-8 "),
        ("path,label\n1,cat\n".encode("utf-16-be"), "without a byte order mark.*iconv -f UTF-16BE -t UTF-8 "),
        ("path,label\n1,cat\n".encode("utf-32"), "line 1: UTF-32 text instead of UTF-8"),
        ("path,label\n1,cat\n".encode("utf-16")[:-1], "line . or later: damaged UTF-16 text"),
        (b"PK\x03\x04", "is a spreadsheet or a compressed file"),
        ("path,label\n1,cat\n2,nan\n", "line 3: the label is 'nan', which usually means a missing value"),
        ("path,label\n1,None\n", "line 2: the label is 'None'"),
        ("path,labels\n1,cat|NA\n", "line 2: the label is 'NA'"),
        ("path,labels\n1,nan\n", "line 2: the cell of labels is 'nan'"),
        ("path,label\n1,cat|dog\n", "line 2: the label 'cat|dog' seems to be several: .* call the column labels"),
        ("path,label\n1,\"['cat', 'dog']\"\n", "seems to be several"),
        ("path,labels\n1,cat dog\n2,cat\n", r"line 2: the labels 'cat dog' may be one or several: .* cat\|dog"),
        ('path,labels\n1,cat\n2,"cat, dog"\n', r"line 3: the labels 'cat, dog' may be one or several: .* cat\|dog"),
        ("path,labels\n1,['cat' 'dog']\n", "not a valid list of strings"),
        ("path,labels\n1,[cat]\n", "not a valid list of strings"),
        ("path,labels\n1,[1]\n", "not a valid list of strings"),
        ("path,label,is_valid\n1,cat,maybe\n", "line 2: is_valid must be True or False; got 'maybe'"),
        ("path,label,use\n1,cat,Training\n2,cat,test\n", "no column split, but 'use' contains only train, val or"),
        ("img,fname,label\n1,2,cat\n", "more than one column for the path"),
    ],
)
def test_other_tables_are_refused_naming_the_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        list_table(table(tmp_path, text))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_decides_the_encoding(tmp_path, encoding, end):
    text = end.join(("path,label,where", "ä.png,猫,Zürich", '2.png,dog,"x', 'y"', ""))
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    path = table(tmp_path, (mark + text).encode(encoding))
    assert list_table(path).candidates == (Candidate("ä.png", "猫", None), Candidate("2.png", "dog", None))
    assert read_column(path, "where") == {"ä.png": "Zürich", "2.png": f"x{end}y"}


def test_another_encoding_is_not_guessed_but_told_with_the_command_that_converts_it(tmp_path):
    text = "path,label\n1.png,cat\n2.png,café\n"
    path = table(tmp_path, text.encode("cp1252"))
    with pytest.raises(DataError, match="line 3: not UTF-8 text") as refused:
        list_table(path)
    assert "Windows-1252, as older Windows programs write, it has '2.png,café'" in str(refused.value)
    command = str(refused.value).partition("convert it: ")[2]
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    assert [found.target for found in list_table(tmp_path / "data-utf8.csv").candidates] == ["cat", "café"]


def test_a_missing_table_is_said(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        list_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("delimiter", "written"), [(",", "b|a"), (",", " b ; a "), (";", "a | b|"), ("\t", "b;a|b"), (",", '"a|b"')]
)
def test_labels_are_parted_sorted_and_each_counted_once(tmp_path, delimiter, written):
    listing = list_table(table(tmp_path, f"path{delimiter}labels\n1{delimiter}{written}\n2{delimiter}\n"))
    assert listing.candidates == (Candidate("1", ("a", "b"), None), Candidate("2", (), None))
    assert (listing.target, listing.classes) == ("multilabel", ("a", "b"))


def test_scores_are_numbers(tmp_path):
    listing = list_table(table(tmp_path, "score,path\n-1.5e1, 1\n3,2\n"))
    assert listing.candidates == (Candidate("1", -15.0, None), Candidate("2", 3.0, None))
    assert all(isinstance(found.target, float) for found in listing.candidates)
    assert (listing.target, listing.classes) == ("regression", ())


@pytest.mark.parametrize("written", ["", "high", "nan", "inf", "3,5", "1_000"])
def test_a_score_that_is_no_finite_number_is_named_with_its_line(tmp_path, written):
    with pytest.raises(DataError, match=r"line 3: score must be a finite number such as 3\.5"):
        list_table(table(tmp_path, f'path,score\n1,1\n2,"{written}"\n'))


@pytest.mark.parametrize("columns", ["label,labels", "labels,score", "class,score", "label,labels,score"])
def test_two_targets_are_refused_naming_the_three(tmp_path, columns):
    with pytest.raises(DataError, match="keep only one of label, labels and score"):
        list_table(table(tmp_path, f"path,{columns}\n"))


def test_a_table_without_a_target_is_told_all_three(tmp_path):
    with pytest.raises(DataError, match=r"(?s)path, label and.*Instead of label: labels.*or score"):
        list_table(table(tmp_path, "path,split\n1,train\n"))


def test_one_label_a_line_is_told_how_to_write_several(tmp_path):
    with pytest.raises(DataError, match=r"labels \('a',\).*list all its labels in one line"):
        list_table(table(tmp_path, "path,labels\n1,a\n1,b\n"))


def test_another_column_says_its_value_for_each_image(tmp_path):
    text = 'Camera;path;label;note\nnorth;./a/1.png;cat;"x; y"\n;2.png;dog;\nnorth;a/1.png;cat;"x; y"\n'
    path = table(tmp_path, text)
    assert read_column(path, "Camera") == {"a/1.png": "north", "2.png": ""}
    assert read_column(path, "camera") == read_column(path, "Camera")
    assert read_column(path, "note") == {"a/1.png": "x; y", "2.png": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label,place,time\n1,cat,a,b\n", "has no column 'camera'; its other columns are 'place', 'time'"),
        ("path,label\n1,cat\n", "has no column 'camera'; it has only path and target"),
        ("path,label,camera,camera\n1,cat,a,b\n", "more than one column 'camera'"),
        ("path,label,camera\n1,cat,a\n./1,cat,b\n", "line 3: camera of '1' is 'b', but an earlier line has 'a'"),
        ("path,label,camera\n1,cat\n", "line 2: expected 3 columns"),
    ],
)
def test_a_column_that_is_not_there_or_says_two_things_is_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_column(table(tmp_path, text), "camera")


@pytest.mark.parametrize("path", ["image_path", "filepath", "File Path", "file_name", "fname", "img", "Filepaths"])
def test_columns_have_the_names_that_others_give_them(tmp_path, path):
    assert list_table(table(tmp_path, f"{path},category\na.png,cat\n")).candidates == (Candidate("a.png", "cat", None),)


def test_our_own_name_of_a_column_goes_before_the_others(tmp_path):
    listing = list_table(table(tmp_path, "category,label,filepath,image\nanimal,cat,/x/1.png,1.png\n"))
    assert listing.candidates == (Candidate("1.png", "cat", None),)


def test_the_delimiter_that_a_spreadsheet_is_told_is_taken(tmp_path):
    for text in ("sep=;\r\npath;label\r\n1;a,b\r\n", '\n"sep=;"\npath;label\n1;a,b\n'):
        assert list_table(table(tmp_path, text)).candidates == (Candidate("1", "a,b", None),)


def test_old_macs_lines_and_empty_rows_are_taken(tmp_path):
    listing = list_table(table(tmp_path, "path,label\r1,cat\r,\r , \r2,dog\r"))
    assert [found.name for found in listing.candidates] == ["1", "2"]


def test_fastais_column_says_what_is_for_validation(tmp_path):
    listing = list_table(table(tmp_path, "fname,labels,is_valid\n1,cat|dog,True\n2,cat,False\n3,dog,0\n"))
    assert [found.split for found in listing.candidates] == ["val", "train", "train"]


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['b', 'a']", ("a", "b")),
        ('[""b"", ""a""]', ("a", "b")),
        ("('a',)", ("a",)),
        ("{'a'}", ("a",)),
        ("[]", ()),
        ("{}", ()),
        (r"a\|b|c", ("a|b", "c")),
        ("hot dog|cat", ("cat", "hot dog")),
    ],
)
def test_labels_may_be_a_list_of_pythons_and_a_mark_within_one_is_escaped(tmp_path, cell, labels):
    assert list_table(table(tmp_path, f'path,labels\n1,"{cell}"\n2,x|y\n')).candidates[0].target == labels


def test_classes_that_seem_to_be_several_labels_are_told(tmp_path):
    listing = list_table(table(tmp_path, 'path,label\n1,cat\n2,dog\n3,"cat, dog"\n4,"Paris, Texas"\n'))
    (note,) = listing.notes
    assert "seem to be several labels: cat, dog;" in note


def test_files_are_found_whose_names_on_disk_are_other_characters(tmp_path):
    nfd = unicodedata.normalize("NFD", "caf\u00e9")
    (tmp_path / nfd).mkdir()
    for name in (f"{nfd}/{nfd}.png", "b.png", "=c.png", " d.png", f"{nfd}/e\\f.png"):
        (tmp_path / name).touch()
    text = 'path,label,where\ncaf\u00e9\\caf\u00e9.png,x,1\nb.png ,y,2\n\'=c.png,y,3\n" d.png",y,4\n'
    text += "caf\u00e9/e\\f.png,y,5\n"
    path = table(tmp_path, text)
    listing = list_table(path)
    names = [f"{nfd}/{nfd}.png", "b.png", "=c.png", " d.png", f"{nfd}/e\\f.png"]
    assert [found.name for found in listing.candidates] == names
    assert "another form of the name" in listing.notes[0]
    assert read_column(path, "where") == dict(zip(names, "12345", strict=True))


def test_one_file_by_two_forms_of_its_name_is_listed_once(tmp_path):
    (tmp_path / "caf\u00e9.png").touch()
    nfd = unicodedata.normalize("NFD", "caf\u00e9")
    listing = list_table(table(tmp_path, f"path,label\ncaf\u00e9.png,{nfd}\n{nfd}.png,caf\u00e9\n"))
    assert listing.classes == ("caf\u00e9",) and listing.skipped == (Skipped("caf\u00e9.png", "listed twice"),)


def test_a_table_that_was_written_for_spreadsheets_is_read_as_it_was_meant(tmp_path):
    path = table(tmp_path, csv_text(("path", "label"), [("=1.png", "-cat"), ("2.png", "'+dog")]))
    assert [(found.name, found.target) for found in list_table(path).candidates] == [
        ("=1.png", "-cat"),
        ("2.png", "'+dog"),
    ]


def test_the_cells_are_those_of_the_csv_module(tmp_path):
    path = table(tmp_path, 'id,image,note,class\n1,"a, b.png","x\ny",cat\n2,c.png,"say ""hi""",dog\n')
    with path.open(newline="") as file:
        peer = [(row["image"], row["class"]) for row in csv.DictReader(file)]
    assert [(found.name, found.target) for found in list_table(path).candidates] == peer


def test_a_table_of_many_columns_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match=r"the first line of .* has more than 1,048,576 characters"):
        list_table(table(tmp_path, b"path,label" + b",x" * 2**20))
