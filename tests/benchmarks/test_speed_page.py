import pytest

from benchmarks.speed.page import ratios, tables

pytestmark = pytest.mark.benchmarks

ENTRY = {
    "seconds": 0.0123,
    "relative_iqr": 0.04,
    "images_per_second": 81.3,
    "matmul_share": 0.5,
    "megavit_speedup": 1.0,
}


def test_a_case_is_a_table_and_memory_a_column_where_it_was_measured() -> None:
    figures = {
        "machine": "a laptop",
        "versions": {"torch": "2"},
        "cases": [
            {"title": "S, batch 1", "entries": [{"name": "megavit", **ENTRY}]},
            {"title": "step", "entries": [{"name": "megavit", "memory": 2**30, **ENTRY}]},
        ],
    }
    lines = tables(figures)
    assert "limited" not in " ".join(lines) and "Instructions" not in " ".join(lines)
    assert lines[:3] == ["### a laptop", "", "torch 2."]
    assert "| megavit | 12.3 | 2% | 81.3 | 50% | 1.00 |" in lines
    assert "| megavit | 12.3 | 2% | 81.3 | 50% | 1.00 | 1,024 MiB |" in lines


def test_a_limit_of_the_instructions_is_said_in_the_heading_and_with_what_does_not_heed_it() -> None:
    figures = {
        "machine": "a laptop",
        "versions": {"torch": "2"},
        "instructions": ["AVX2", "AVX-512"],
        "limits": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        "cases": [{"title": "S, batch 1, bfloat16", "entries": [], "note": "none here"}],
    }
    heading, _, _, _, instructions, _, limits, _, note = tables(figures)
    assert heading == "### a laptop, limited to AVX2" and instructions == "Instructions: AVX2, AVX-512."
    assert limits.startswith("Limited by ONEDNN_MAX_CPU_ISA=AVX2") and "ONNX Runtime does not heed" in limits
    assert note == "S, batch 1, bfloat16: none here."


def test_ratios_are_one_table_with_a_row_a_case_and_a_column_a_contender() -> None:
    others = {
        name: {"name": name, **ENTRY, "megavit_speedup": 1.25} for name in ("timm in PyTorch", "timm in X, dynamic")
    }
    figures = {
        "machine": "a laptop",
        "versions": {"torch": "2"},
        "cases": [
            {"title": "float32", "entries": [{"name": "megavit", **ENTRY}, others["timm in PyTorch"]]},
            {"title": "bfloat16", "entries": [], "note": "none here"},
            {"title": "int8", "entries": [others["timm in X, dynamic"], {"name": "megavit", **ENTRY}]},
        ],
    }
    assert ratios(figures)[4:] == [
        "| | megavit, ms | timm in X | timm in PyTorch |",
        "|---|---:|---:|---:|",
        "| float32 | 12.3 | - | 1.25 |",
        "| bfloat16 | none | - | - |",
        "| int8 | 12.3 | 1.25 | - |",
        "",
        "- bfloat16: none here.",
    ]
