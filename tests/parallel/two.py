"""What two processes do for the tests, once for all of them: see `test_layouts`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from megavit.parallel import plans
from megavit.parallel.shards import local
from megavit.runtime.ranks import ranks
from megavit.train.gather import gathered
from megavit.train.state import TrainState
from tests.parallel.tiny import DESIGNS, PoisonedAt, fresh, restored, save, steps, task_of, team_of

LAYOUTS = {"ddp": (2, 1, 1), "fsdp": (1, 2, 1), "tp": (1, 1, 2)}
SAVED = 5


def main(out: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name, layout in LAYOUTS.items():
        for design in DESIGNS:
            state = fresh(task_of(), team_of(layout), DESIGNS[design])
            losses = steps(state, task_of(), SAVED)
            save(state, out / f"{name}-{design}")
            answer[f"{name} {design}"] = losses + steps(state, task_of())
            whole = gathered(state).model.state_dict()
            again = restored(task_of(), team_of(layout), out / f"{name}-{design}", DESIGNS[design])
            answer[f"{name} {design} again"] = losses + steps(again, task_of())
            answer[f"{name} {design} same"] = same(state, again)
            answer[f"{name} {design} finite"] = all(bool(tensor.isfinite().all()) for tensor in whole.values())
        answer[f"{name} from one"] = steps(restored(task_of(), team_of(layout), out / "one"), task_of())
        answer[f"{name} muon"] = steps(fresh(task_of("muon"), team_of(layout), DESIGNS["serial"]), task_of("muon"))
        frugal = task_of(checkpointing=True)
        answer[f"{name} checkpointing"] = steps(fresh(frugal, team_of(layout)), frugal)
        poisoned = task_of(loss=PoisonedAt(7, ranks().rank == 1))
        state = fresh(poisoned, team_of(layout))
        answer[f"{name} nan"] = [str(loss) for loss in steps(state, poisoned)]
        answer[f"{name} skipped"] = state.skipped
        without = fresh(task_of(), team_of(layout))
        steps(without, task_of(), 6)
        without.step += 1
        steps(without, task_of())
        answer[f"{name} as without"] = same(state, without)
    plans.plan_of = without_norms
    answer["mutant"] = steps(fresh(task_of(), team_of((1, 1, 2))), task_of())
    return answer


def same(state: TrainState, other: TrainState) -> bool:
    """Whether this process's parts of two models are equal to the bit."""
    pairs = zip(state.weights().values(), other.weights().values(), strict=True)
    return all(torch.equal(local(a), local(b)) for a, b in pairs)


def without_norms(layer: torch.nn.Module) -> Any:
    """The plan as it would be without the sum of the gradients of the norms of queries and keys."""
    return {name: style for name, style in real_plan(layer).items() if not name.endswith("_norm")}


real_plan = plans.plan_of

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with ranks().joined(torch.device("cpu"), 60):
        found = main(folder)
    if ranks().leads:
        (folder / "answer.json").write_text(json.dumps(found))
