"""The table of export formats, and requests that cannot be met."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from megavit.errors import ConfigError, OutputError
from megavit.exporting import formats as module
from megavit.exporting.export import RUNTIMES
from megavit.exporting.formats import EXPORT_TARGETS, TargetName, check_export_request


def test_every_format_has_a_row_and_a_runtime():
    assert set(EXPORT_TARGETS) == set(get_args(TargetName)) == set(RUNTIMES)
    for name, row in EXPORT_TARGETS.items():
        assert "float32" in row.precisions and row.inputs and 1 in row.batch_sizes, name
        assert row.files.startswith("`")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (("tensorflow", "pixels", "float32"), "to must be one of onnx, .*tensorrt; got 'tensorflow'"),
        (("coreml", "images", "int8"), "coreml can be exported in float32, float16, not in int8"),
        (("tensorrt", "pixels", "float16"), "tensorrt supports only preprocessed images: add --input images"),
        (("web", "images", "float32"), "web supports only --input pixels: leave out --input"),
    ],
)
def test_what_no_bundle_can_be_exported_as_is_told(request_, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        check_export_request(*request_, out=tmp_path / "new")


def test_a_package_that_is_missing_is_told_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"coremltools is not installed: pip install 'megavit\[coreml\]'"):
        check_export_request("coreml", "images", "float32", tmp_path / "new")
    assert check_export_request("tensorrt", "images", "float32", tmp_path / "new")[0] == "tensorrt"


def test_files_are_not_overwritten_and_a_runtime_is_only_for_the_page(tmp_path):
    with pytest.raises(OutputError, match="already exists"):
        check_export_request("onnx", "pixels", "float32", tmp_path)
    with pytest.raises(ConfigError, match="only for --to web"):
        check_export_request("onnx", "pixels", "float32", tmp_path / "new", runtime=tmp_path)


def test_outputs_are_verified_where_the_runtime_is(monkeypatch):
    for system, verified in (("linux", False), ("darwin", True)):
        monkeypatch.setattr(module.sys, "platform", system)
        assert EXPORT_TARGETS["coreml"].is_verified == verified
        assert not EXPORT_TARGETS["tensorrt"].is_verified and EXPORT_TARGETS["onnx"].is_verified


def read_tables(page: Path) -> list[list[list[str]]]:
    """Return the cells of each table of a page, by row, without the heading."""
    blocks = [block.strip().splitlines() for block in page.read_text(encoding="utf-8").split("\n\n")]
    tables = [lines[2:] for lines in blocks if lines[0].startswith("| `--to`")]
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in lines] for lines in tables]


def test_the_guide_lists_every_format_as_the_table_does():
    formats, verified = read_tables(Path(__file__).parents[2] / "docs" / "how-to" / "export.md")
    names = [f"`{name}`" for name in EXPORT_TARGETS]
    assert [cells[0] for cells in formats] == [cells[0] for cells in verified] == names
    for cells, row in zip(formats, EXPORT_TARGETS.values(), strict=True):
        assert cells[2:] == [", ".join(row.precisions), ", ".join(row.inputs)], cells
        assert [package in cells[1] for _, package in row.needs] == [True] * len(row.needs), cells
    for cells, row in zip(verified, EXPORT_TARGETS.values(), strict=True):
        assert cells[2] == ("never" if not row.unverified else "except on macOS" if row.runs_on else "always"), cells
        assert all(cells), cells
    assert {row.runs_on for row in EXPORT_TARGETS.values()} == {(), ("darwin",)}


def test_a_request_is_refused_before_anything_heavy_is_imported(tmp_path: Path):
    code = """
import sys, megavit
try:
    megavit.export("no bundle", to="tensorrt", out="new")
except megavit.MegavitError as error:
    assert "--input images" in str(error)
    assert not {"torch", "numpy", "onnx", "openvino"} & set(sys.modules)
else:
    sys.exit("not refused")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
