"""Names: one form to compare by, nothing that a terminal acts on, and which look alike."""

import os
import unicodedata

import pytest

from megavit.config.names import (
    abbreviate,
    canonical,
    find_look_alikes,
    index_by_name,
    is_missing,
    printable,
    shell_quote,
    show_code_points,
)
from megavit.config.target import join_labels, split_labels

NFD = unicodedata.normalize("NFD", "caf\u00e9")


def test_two_unicode_forms_are_one_name():
    assert canonical(NFD) == canonical("caf\u00e9") == "caf\u00e9"
    assert index_by_name(["tea", NFD])["caf\u00e9"] == index_by_name(["tea", NFD])[NFD] == 1


@pytest.mark.parametrize(
    ("other", "point"),
    [
        ("Cat", "U+0043"),
        ("cat ", "U+0020"),
        (" cat", "U+0020"),
        ("c\u200bat", "U+200B"),
        ("\ufeffcat", "U+FEFF"),
        ("c\u0430t", "U+0430"),
        ("\uff43\uff41\uff54", "U+FF43 U+FF41 U+FF54"),
        ("cat\u00ad", "U+00AD"),
    ],
)
def test_names_that_look_alike_are_found_with_their_code_points(other, point):
    assert find_look_alikes(["dog", "cat", other]) == [("cat", other)]
    shown = show_code_points(["cat", other])
    assert shown.isprintable() and point in shown


def test_other_names_do_not():
    assert find_look_alikes(["cat", "cats", "dog", "1", "l", "10"]) == []


def test_a_line_is_one_line_and_no_escape_code_is_raw():
    assert printable("a\nb\x1b[31mc\u202e\x9b") == r"a\nb\x1b[31mc\u202e\x9b"
    assert printable("a\nb", keep="\n") == "a\nb" and printable("caf\u00e9 \u732b") == "caf\u00e9 \u732b"


def test_long_lists_are_shortened():
    assert abbreviate(["cat", "x" * 99], 2) == f"cat, {'x' * 39}\u2026"
    assert abbreviate([str(number) for number in range(1000)], 3) == "0, 1, 2, and 997 more"


@pytest.mark.parametrize("labels", [["a|b", "c"], ["a\\", "|b"], ["x;y"], [r"a\|b", "\\"], ["cat", "indoors"], []])
def test_labels_joined_in_a_cell_come_apart_again(labels):
    assert split_labels(join_labels(labels)) == split_labels(join_labels(labels), "|;") == labels
    assert join_labels(["cat", "indoors"]) == "cat|indoors"


def test_what_pandas_takes_for_missing_is_missing():
    assert all(map(is_missing, ("nan", "NaN", "None", "NA", "N/A", "null", " nan ")))
    assert not any(map(is_missing, ("none", "na", "no", "", "0", "Nancy")))


def test_an_argument_is_quoted_for_the_shells_of_this_system(monkeypatch):
    assert [shell_quote(name) for name in ("runs/a", "my runs", "it's")] == ["runs/a", "'my runs'", "'it'\"'\"'s'"]
    monkeypatch.setattr(os, "name", "nt")
    windows = (r"C:\\runs\\a-1.b", "my runs", "it's", "a&b", "50%")
    assert [shell_quote(name) for name in windows] == [windows[0], *(f'"{name}"' for name in windows[1:])]
