"""What four processes do for the tests: go on with what two left, and divide the work in two ways at once."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from megavit.distributed.all_to_all import gather_shards, scatter_full
from megavit.distributed.dtensor_utils import gather_full, to_local
from megavit.runtime.process_group import get_dist_context
from megavit.training.state import TrainState
from tests.helpers.distributed.training import (
    DESIGNS,
    count_all_reduces,
    load_state,
    make_parallel_context,
    make_state,
    make_task,
    save_state,
    train_steps,
)

LAYOUTS = {
    "hsdp": ((2, 2, 1), "parallel"),
    "fsdp+tp": ((1, 2, 2), "serial"),
    "ddp+tp": ((2, 1, 2), "parallel"),
    "tp": ((1, 1, 4), "serial"),
}
BEGUN = ("ddp", "fsdp", "tp")
GOING_ON = ("hsdp", "fsdp+tp")
SAVED, UNTIL = 3, 6


def main(out: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for name, (layout, design) in LAYOUTS.items():
        state = make_state(make_task(), make_parallel_context(layout), DESIGNS[design])
        losses = train_steps(state, make_task(), SAVED)
        if name == "fsdp+tp":
            save_state(state, out / f"four-{design}")
        answer[name] = losses + train_steps(state, make_task())
        divided = make_task(parts=2)
        state = make_state(divided, make_parallel_context(layout), DESIGNS[design])
        answer[f"{name} parts"] = train_steps(state, divided)
        answer[f"{name} sums"] = [count_all_reduces(state, divided), count_all_reduces(state, make_task())]
    state = make_state(make_task("muon"), make_parallel_context((1, 2, 2)), DESIGNS["serial"])
    answer["fsdp+tp muon"] = train_steps(state, make_task("muon"))
    answer["dealt"] = dealt_and_collected(state)
    answer["dealt unevenly"] = [unevenly(rows) for rows in (7, 5, 3)]
    for name in GOING_ON:
        for begun in BEGUN:
            state = load_state(
                make_task(), make_parallel_context(LAYOUTS[name][0]), out / f"{begun}-serial", DESIGNS["serial"]
            )
            answer[f"{begun} to {name}"] = train_steps(state, make_task(), UNTIL)
    return answer


def dealt_and_collected(state: TrainState) -> bool:
    """Whether each matrix of a divided model is dealt whole, and comes back as it was."""
    model, found = state.model.transformer, []
    for name in ("attention.to_qkv", "attention.out", "mlp.into", "mlp.out"):
        matrices = [layer.get_parameter(f"{name}.weight") for layer in model.layers]
        found.append(round_trip(matrices))
    return all(get_dist_context().all_gather(all(found)))


def unevenly(rows: int) -> bool:
    """The same of three matrices of so many rows over four processes."""
    mesh = init_device_mesh("cpu", (4,), mesh_dim_names=("shard",))
    matrices = [torch.arange(rows * 2.0).view(rows, 2) + 100 * number for number in range(3)]
    return all(
        get_dist_context().all_gather(round_trip([distribute_tensor(matrix, mesh, [Shard(0)]) for matrix in matrices]))
    )


def round_trip(matrices: Sequence[Tensor]) -> bool:
    like = matrices[0]
    wholes = [gather_full(matrix) for matrix in matrices]
    own = scatter_full([to_local(matrix) for matrix in matrices], like)
    me = like.device_mesh["shard"].get_local_rank()  # pyrefly: ignore[missing-attribute]
    right = own is None if me >= len(matrices) else own is not None and torch.equal(own, wholes[me])
    back = gather_shards(own, len(matrices), like, like.dtype)
    return right and all(torch.equal(part, to_local(matrix)) for part, matrix in zip(back, matrices, strict=True))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with get_dist_context().init_process_group(torch.device("cpu"), 20):
        found = main(folder)
    if get_dist_context().is_main_process:
        (folder / "answer.json").write_text(json.dumps(found))
