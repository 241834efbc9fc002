"""The folder that a check writes: check.csv and check.html."""

from pathlib import Path

from megavit.check.check import Checked
from megavit.check.page import checked_page
from megavit.check.table import checked_csv
from megavit.data.demos import PREFIX
from megavit.errors import OutputError
from megavit.runtime.storage import check_writable, write_file, writing

TABLE, PAGE = "check.csv", "check.html"


def check_place(out: Path, source: str) -> None:
    """Refuse a folder with anything in it, one that cannot be written, and one within the data.

    Raises:
        OutputError: saying what to choose instead.
    """
    with writing("the check", out):
        if out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out} is not empty; choose a new folder with --out")
        data = Path(source)
        if not source.startswith(PREFIX) and data.is_dir() and out.resolve().is_relative_to(data.resolve()):
            raise OutputError(
                f"{out} lies within the data, {source}, and would become a class of it; choose a place outside with "
                "--out"
            )
    check_writable(out, "the check", need=0)


def write_checked(out: Path, checked: Checked, left_out: str) -> None:
    """Write the table and the page into `out`; `left_out` is why labels were not judged, "" where they were.

    Raises:
        OutputError: when they cannot be written.
    """
    with writing("the check", out):
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / TABLE, checked_csv(checked))
        write_file(out / PAGE, checked_page(checked, left_out))
