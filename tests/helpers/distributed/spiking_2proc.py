"""What two processes do for the tests when the weights break: see `test_spiking`."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from megavit.runtime.process_group import ranks
from tests.helpers.distributed.dist_2proc import FORMATS, same
from tests.helpers.distributed.training import team_of
from tests.helpers.spiking_run import BROKEN, go, shorten

STOPPED = BROKEN + 3


def main(out: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name, layout in FORMATS.items():
        whole, watch, _ = go(out / name, {BROKEN: 30.0}, team=team_of(layout))
        answer[name] = watch.losses
        answer[f"{name} numbers"] = whole.numbers()
        go(out / f"{name} stopped", {BROKEN: 30.0}, stop_at=STOPPED, team=team_of(layout))
        again, *_ = go(out / f"{name} stopped", {BROKEN: 30.0}, team=team_of(layout))
        answer[f"{name} same"] = all(ranks().every(same(whole, again))) and again.left_out == whole.left_out
    return answer


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with ranks().joined(torch.device("cpu"), 60), pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch)
        found = main(folder)
    if ranks().leads:
        (folder / "answer.json").write_text(json.dumps(found))
