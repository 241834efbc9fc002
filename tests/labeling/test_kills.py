"""Processes that label are killed at random moments: no confirmed stroke is lost, and none is there twice."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from megavit.labeling.store import LabelStore
from tests.helpers.servers import ENVIRONMENT, ROOT


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.drill)])
def test_a_killed_process_loses_and_doubles_no_stroke(tmp_path: Path, kills: int) -> None:
    command = [sys.executable, "-m", "tests.helpers.label_until_killed", str(tmp_path), str(kills), "0"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=True)
    confirmed = json.loads(done.stdout)
    counts = Counter(one.stroke for one in LabelStore(tmp_path).decisions)
    lost = [(writer, n) for writer, most in enumerate(confirmed) for n in range(most) if not counts[f"{writer}-{n}"]]
    assert sum(confirmed) > kills
    assert lost == []
    for stroke, lines in counts.items():
        writer, number = map(int, stroke.split("-"))
        whole = 1 + number % 3
        assert lines == whole if number < confirmed[writer] else lines <= whole
        assert number <= confirmed[writer]  # at most the one that was not confirmed any more
