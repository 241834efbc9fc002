"""`megavit bench`, as a person runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.command_line import run_megavit


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    # As on a processor without AVX-512 and bfloat16, whatever this one has.
    return subprocess.run(
        [sys.executable, "-m", "megavit", "bench", *arguments],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_figures_for_machines_and_what_the_processor_lacks(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    done = bench("pico", "--quick", "--json", "--out", str(written), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "profiler" not in done.stderr.lower()
    figures = json.loads(done.stdout)
    assert figures == json.loads(written.read_text())
    assert figures["versions"]["torch"] and figures["machine"]
    float32, bfloat16, step = figures["cases"]
    assert bfloat16 == {
        "title": "pico, batch 1, bfloat16",
        "entries": [],
        "note": "this machine has no instructions for bfloat16",
    }
    assert step["title"] == "pico, training step, batch 16, float32"
    for case in (float32, step):
        assert {"megavit"} <= {entry["name"] for entry in case["entries"]}
    again = run_megavit("bench", "pico", "--out", written, cwd=tmp_path)
    assert again.returncode == 2 and "choose another" in again.stderr


def test_an_unknown_model_is_refused_before_anything_is_timed(tmp_path: Path) -> None:
    done = run_megavit("bench", "S", "huge", cwd=tmp_path)
    assert done.returncode == 2 and "huge" in done.stderr and "S:" not in done.stderr


def test_a_folder_that_takes_no_file_is_told_before_anything_is_timed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_megavit("bench", "pico", "--quick", "--out", tmp_path / "file" / "figures.json", cwd=tmp_path)
    assert done.returncode == 2 and "the measurements" in done.stderr and "pico:" not in done.stderr
