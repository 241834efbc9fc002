import re
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.pages import page_with

pytestmark = pytest.mark.benchmarks

DOCS = Path(__file__).parents[2] / "docs"


def test_only_what_is_between_the_markers_changes() -> None:
    assert page_with("a\n<!-- x -->\nold\n<!-- y -->\nb\n", "<!-- x -->", ["new"], "<!-- y -->") == (
        "a\n<!-- x -->\n\nnew\n\n<!-- y -->\nb\n"
    )


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(SystemExit, match="must contain <!-- x --> and <!-- y -->"):
        page_with("<!-- y -->, then <!-- x -->", "<!-- x -->", [], "<!-- y -->")


@pytest.mark.parametrize("script", ["benchmarks.learning.report", "benchmarks.parity.__main__"])
def test_the_pages_have_a_place_for_their_figures(script: str) -> None:
    markers = import_module(script)
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert len(re.findall(f"{re.escape(markers.BEGIN)}.*?{re.escape(markers.END)}", text, re.DOTALL)) == 1
