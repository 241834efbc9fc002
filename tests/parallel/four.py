"""What four processes do for the tests: go on with what two left, and divide the work in two ways at once."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from megavit.runtime.ranks import ranks
from tests.parallel.tiny import DESIGNS, fresh, restored, save, steps, sums, task_of, team_of

LAYOUTS = {
    "hsdp": ((2, 2, 1), "parallel"),
    "fsdp+tp": ((1, 2, 2), "serial"),
    "ddp+tp": ((2, 1, 2), "parallel"),
    "tp": ((1, 1, 4), "serial"),
}
BEGUN = ("ddp", "fsdp", "tp")
GOING_ON = ("hsdp", "fsdp+tp")
SAVED, UNTIL = 5, 12


def main(out: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name, (layout, design) in LAYOUTS.items():
        state = fresh(task_of(), team_of(layout), DESIGNS[design])
        losses = steps(state, task_of(), SAVED)
        if name == "fsdp+tp":
            save(state, out / f"four-{design}")
        answer[name] = losses + steps(state, task_of())
        divided = task_of(parts=2)
        state = fresh(divided, team_of(layout), DESIGNS[design])
        answer[f"{name} parts"] = steps(state, divided)
        answer[f"{name} sums"] = [sums(state, divided), sums(state, task_of())]
    for name in GOING_ON:
        for begun in BEGUN:
            state = restored(task_of(), team_of(LAYOUTS[name][0]), out / f"{begun}-serial", DESIGNS["serial"])
            answer[f"{begun} to {name}"] = steps(state, task_of(), UNTIL)
    return answer


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with ranks().joined(torch.device("cpu"), 20):
        found = main(folder)
    if ranks().leads:
        (folder / "answer.json").write_text(json.dumps(found))
