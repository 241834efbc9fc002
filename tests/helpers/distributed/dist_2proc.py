"""What two processes do for the tests, once for all of them: see `test_layouts`."""

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from megavit.config.vit import ViTConfig
from megavit.distributed import tensor_parallel_plan
from megavit.distributed.dtensor_utils import to_local
from megavit.errors import OutputError
from megavit.runtime.process_group import get_dist_context
from megavit.training.budget.measure import measure_step
from megavit.training.checkpoint.distributed import gather_full_state
from megavit.training.state import TrainState
from megavit.training.task import Task
from tests.helpers.distributed.training import (
    BATCH,
    DESIGNS,
    AllReduces,
    PoisonedAt,
    Slow,
    count_all_reduces,
    load_state,
    make_batches,
    make_parallel_context,
    make_state,
    make_task,
    save_state,
    train_on_time_budget,
    train_steps,
)
from tests.helpers.spiking_run import BROKEN, shorten_schedules, train_spiking

LAYOUTS = {"ddp": (2, 1, 1), "fsdp": (1, 2, 1), "tp": (1, 1, 2)}
DIVERGING = ("fsdp", "tp")
SAVED = 3
POISONED = 5
SECONDS, SLOW = 1.5, 0.1


def main(out: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name, layout in LAYOUTS.items():
        for design in DESIGNS:
            state = make_state(make_task(), make_parallel_context(layout), DESIGNS[design])
            losses = train_steps(state, make_task(), SAVED)
            save_state(state, out / f"{name}-{design}")
            answer[f"{name} {design}"] = losses + train_steps(state, make_task())
            whole = gather_full_state(state).model.state_dict()
            again = load_state(make_task(), make_parallel_context(layout), out / f"{name}-{design}", DESIGNS[design])
            answer[f"{name} {design} again"] = losses + train_steps(again, make_task())
            answer[f"{name} {design} same"] = same(state, again)
            answer[f"{name} {design} finite"] = all(bool(to_local(one).isfinite().all()) for one in whole.values())
        answer[f"{name} from one"] = train_steps(
            load_state(make_task(), make_parallel_context(layout), out / "one"), make_task()
        )
        answer[f"{name} muon"] = train_steps(
            make_state(make_task("muon"), make_parallel_context(layout), DESIGNS["serial"]), make_task("muon")
        )
        frugal = make_task(checkpointing=True)
        answer[f"{name} checkpointing"] = train_steps(make_state(frugal, make_parallel_context(layout)), frugal)
        low = make_task(precision="bfloat16")
        answer[f"{name} bfloat16"] = train_steps(make_state(low, make_parallel_context(layout, torch.bfloat16)), low)
        if name != "ddp":
            begun = make_state(make_task(), make_parallel_context(layout), whole=False)
            answer[f"{name} begun in parts"] = same(begun, make_state(make_task(), make_parallel_context(layout)))
        divided = make_task(parts=2)
        state = make_state(divided, make_parallel_context(layout))
        answer[f"{name} parts"] = train_steps(state, divided)
        answer[f"{name} sums"] = [count_all_reduces(state, divided), count_all_reduces(state, make_task())]
        poisoned = make_task(loss=PoisonedAt(POISONED + 1, get_dist_context().rank == 1))
        state = make_state(poisoned, make_parallel_context(layout))
        answer[f"{name} nan"] = [str(loss) for loss in train_steps(state, poisoned)]
        answer[f"{name} skipped"] = state.skipped
        without = make_state(make_task(), make_parallel_context(layout))
        train_steps(without, make_task(), POISONED)
        without.step += 1
        train_steps(without, make_task())
        answer[f"{name} as without"] = same(state, without)
    compiled = make_state(make_task(), make_parallel_context((1, 2, 1)))
    for layer in compiled.model.transformer.layers:
        layer.compile(backend="aot_eager")  # traced as by the default one, which then waits for a C++ compiler
    answer["compiled"] = train_steps(compiled, make_task())
    answer["sums"] = {
        design: sums_of(make_state(make_task(), make_parallel_context((1, 1, 2)), DESIGNS[design]))
        for design in DESIGNS
    }
    state = make_state(make_task(), make_parallel_context((2, 1, 1)))
    answer["clock"] = get_dist_context().all_gather(
        train_on_time_budget(state, SECONDS, 0.01 + 0.04 * get_dist_context().rank, out / "clock")
    )
    answer["measured"] = get_dist_context().all_gather(measured(make_task()))
    answer["full"] = full_disk(out / "full")
    answer["diverging"] = diverge(out / "diverging")
    tensor_parallel_plan.get_plan = without_norms
    answer["mutant"] = train_steps(make_state(make_task(), make_parallel_context((1, 1, 2))), make_task())
    return answer


def diverge(out: Path) -> dict[str, Any]:
    """Train runs whose weights break, with shards and with divided layers, and the first with a stop meanwhile."""
    answer: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten_schedules(monkeypatch)
        states: dict[str, TrainState] = {}
        for name in DIVERGING:
            states[name], reporter, _ = train_spiking(
                out / name, {BROKEN: 30.0}, parallel=make_parallel_context(LAYOUTS[name])
            )
            answer[name] = reporter.losses
            answer[f"{name} numbers"] = states[name].numbers()
        layout, undisturbed = LAYOUTS["fsdp"], states["fsdp"]
        train_spiking(out / "stopped", {BROKEN: 30.0}, stop_at=BROKEN + 3, parallel=make_parallel_context(layout))
        again, *_ = train_spiking(out / "stopped", {BROKEN: 30.0}, parallel=make_parallel_context(layout))
        equal = same(undisturbed, again) and again.dropped_batches == undisturbed.dropped_batches
        answer["same"] = all(get_dist_context().all_gather(equal))
    return answer


def sums_of(state: TrainState) -> int:
    """All-reduces of the tokens in a step with tensor parallelism."""
    with AllReduces() as counted:
        state.model(torch.rand(BATCH, 1, 8, 8)).sum().backward()
    return counted.of_parts


def measured(task: Task) -> tuple[str, float]:
    """What the speed of a step is said to be, where the second process is the slower one."""
    slow = replace(task, loss=Slow(SLOW * get_dist_context().rank))  # pyrefly: ignore[bad-argument-type]
    state = make_state(slow, make_parallel_context((1, 2, 1)))
    return measure_step(state, slow, next(make_batches(state)))


def full_disk(folder: Path) -> dict[str, Any]:
    """What each process is told when the second one's disk takes no more, and what is there before and after."""
    state = make_state(make_task(), make_parallel_context((1, 2, 1)))
    train_steps(state, make_task(), 1)
    save_state(state, folder)
    train_steps(state, make_task(), 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if get_dist_context().rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    reported = ""
    try:
        save_state(state, folder)
    except OutputError as error:
        reported = str(error)
    there = sorted(path.name for path in folder.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    reported = get_dist_context().all_gather(reported)
    save_state(state, folder)
    return {"reported": reported, "there": there, "after": sorted(path.name for path in folder.iterdir())}


def same(state: TrainState, other: TrainState) -> bool:
    """Whether this process's parts of two models are equal to the bit."""
    pairs = zip(state.weights().values(), other.weights().values(), strict=True)
    return all(torch.equal(to_local(a), to_local(b)) for a, b in pairs)


def without_norms(config: ViTConfig, layer: torch.nn.Module) -> Any:
    """The plan as it would be without the sum of the gradients of the norms of queries and keys."""
    return {name: style for name, style in real_plan(config, layer).items() if not name.endswith("_norm")}


real_plan = tensor_parallel_plan.get_plan

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with get_dist_context().init_process_group(torch.device("cpu"), 20):
        found = main(folder)
    if get_dist_context().is_main_process:
        (folder / "answer.json").write_text(json.dumps(found))
