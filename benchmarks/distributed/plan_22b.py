"""ViT-22B on H100s: the plan, and its formulas beside one rank traced with fake tensors.

    python -m benchmarks.distributed.plan_22b [--gpus 1024] [--json FILE]

Each layout is traced in a process of its own, whose time, of the clock and of the
processor, and largest memory are reported too.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from megavit.config.presets import preset
from megavit.config.vit import ViTConfig
from megavit.plan.hardware import GIB, get_gpu
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.plan.plan import make_plan

IMAGES_PER_GPU = 64


def traced_layouts(gpus: int) -> list[ParallelLayout]:
    """The grids that are traced: all ranks shard, copies of a node's or more, and with tensor parallelism."""
    return [
        ParallelLayout(shard=gpus, micro_batch_size=8, gradient_accumulation=1, gradient_checkpointing=True),
        ParallelLayout(shard=gpus, micro_batch_size=4, gradient_accumulation=1),
        ParallelLayout(
            replicate=gpus // 64, shard=64, micro_batch_size=8, gradient_accumulation=1, gradient_checkpointing=True
        ),
        ParallelLayout(
            shard=gpus // 8, tensor=8, micro_batch_size=16, gradient_accumulation=1, gradient_checkpointing=True
        ),
    ]


def trace_layout(gpus: int, index: int) -> dict[str, Any]:
    """Return formula and trace of one layout, in this process."""
    from megavit.plan.trace.validate import compare_with_trace

    started = time.monotonic()
    layout = traced_layouts(gpus)[index]
    training = Training(batch=layout.batch, optimizer="adamw")
    found = compare_with_trace(model(), training, layout)
    return {
        "layout": layout.name,
        "images at once": layout.micro_batch_size,
        "gradient_checkpointing": layout.gradient_checkpointing,
        **found.to_dict(),
        "seconds": round(time.monotonic() - started, 1),
        "processor seconds": round(time.process_time(), 1),
        "GiB of this process": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB, 2),
    }


def plan_layouts(gpus: int) -> dict[str, Any]:
    started = time.monotonic()
    training = Training(batch=IMAGES_PER_GPU * gpus, optimizer="adamw")
    plan = make_plan(model(), training, get_gpu("h100"), gpus)
    seconds = time.monotonic() - started
    rows = [
        one.to_dict()
        | {"padded": plan.find_padded_parameters(one), "days for 4e9 images": plan.estimate_days(one, 4 * 10**9)}
        for one in plan.fitting
    ]
    return {
        "model": "22B",
        "gpu": "h100",
        "gpus": gpus,
        "batch": training.batch,
        "seconds": round(seconds, 2),
        "fitting": rows,
    }


def model() -> ViTConfig:
    return preset("22B")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1024)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    gpus = arguments.gpus
    if arguments.index is not None:
        sys.stdout.write(json.dumps(trace_layout(gpus, arguments.index)) + "\n")
        return
    found = plan_layouts(gpus) | {"traced": []}
    for index in range(len(traced_layouts(gpus))):
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.distributed.plan_22b"]
        done = subprocess.run(
            [*command, "--gpus", str(gpus), "--index", str(index)], stdout=subprocess.PIPE, text=True, check=True
        )
        found["traced"].append(json.loads(done.stdout))
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
