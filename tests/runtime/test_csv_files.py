"""CSV files: nothing in them is run by a spreadsheet, all of it comes back, and none costs memory without end."""

import csv
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megavit.runtime.csv_files import CsvWriter, TableError, csv_text, read_csv, unescape_row

DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b")


def rows_of(data: bytes) -> list[list[str]]:
    return [unescape_row(row) for _, row in read_csv(io.BytesIO(data), errors="surrogateescape")]


@pytest.mark.parametrize(
    "cell", ['=HYPERLINK("http://x","y")', "+1-800", "-cat", "@SUM(A1)", "\tx", "\rx", "'=x", "''-x"]
)
def test_a_cell_that_a_spreadsheet_would_run_is_text_and_comes_back(cell):
    data = csv_text(("name",), [(cell,)])
    (_, (written,)) = csv.reader(io.StringIO(data.decode(), newline=""))
    assert not written.startswith(DANGEROUS) and written.lstrip("'") == cell.lstrip("'")
    assert rows_of(data)[1] == [cell]


def test_numbers_stay_numbers():
    text = io.StringIO()
    CsvWriter(text).writerow(("-1", "+2.5e-3", "-.5", -1.5, 3, "--1", "-", ""))
    assert text.getvalue() == "-1,+2.5e-3,-.5,-1.5,3,'--1,'-,\n"


@given(st.lists(st.text(alphabet="'=+-@\t\r\n\",a1\udcff"), min_size=1))
def test_every_cell_comes_back_as_it_was(cells):
    assert rows_of(csv_text(("header",) * len(cells), [cells]))[1] == cells


@pytest.mark.parametrize("start", [b"path,label\n1.png,", b'path,label\n1.png,"', b"path", b'a,b\n"x\n'])
def test_a_row_without_end_is_refused_before_it_is_in_memory(start, tmp_path):
    path = tmp_path / "data.csv"
    with path.open("wb") as file:
        file.write(start + b"x,\n" * 10 if start.endswith(b"x\n") else start)
        file.truncate(200_000_000)
    tracemalloc.start()
    with path.open("rb") as file, pytest.raises(TableError, match=r"the row has more than 1,048,576|quotation marks"):
        list(read_csv(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32_000_000
