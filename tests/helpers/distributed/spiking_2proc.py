"""What two processes do for the tests when the weights break: see `test_spiking`."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from megavit.runtime.process_group import get_dist_context
from tests.helpers.distributed.dist_2proc import LAYOUTS, same
from tests.helpers.distributed.training import make_parallel_context
from tests.helpers.spiking_run import BROKEN, shorten_schedules, train_spiking

STOPPED = BROKEN + 3


def main(out: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name, layout in LAYOUTS.items():
        whole, watch, _ = train_spiking(out / name, {BROKEN: 30.0}, parallel=make_parallel_context(layout))
        answer[name] = watch.losses
        answer[f"{name} numbers"] = whole.numbers()
        train_spiking(out / f"{name} stopped", {BROKEN: 30.0}, stop_at=STOPPED, parallel=make_parallel_context(layout))
        again, *_ = train_spiking(out / f"{name} stopped", {BROKEN: 30.0}, parallel=make_parallel_context(layout))
        answer[f"{name} same"] = (
            all(get_dist_context().all_gather(same(whole, again))) and again.dropped_batches == whole.dropped_batches
        )
    return answer


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with get_dist_context().init_process_group(torch.device("cpu"), 60), pytest.MonkeyPatch.context() as monkeypatch:
        shorten_schedules(monkeypatch)
        found = main(folder)
    if get_dist_context().is_main_process:
        (folder / "answer.json").write_text(json.dumps(found))
