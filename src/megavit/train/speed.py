"""How long a step takes, measured on a copy of the run before it starts, in each precision the device has."""

import copy
import statistics
import time
from dataclasses import replace

import torch
from torch import Tensor

from megavit.train.loop import Task, train_step
from megavit.train.state import TrainState

REPETITIONS = 5
# Less than this share is within the noise, and float32 is the safer of two equals.
WORTH_IT = 1.1


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices at all without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def measure(state: TrainState, task: Task, batch: tuple[Tensor, Tensor]) -> tuple[torch.dtype, float]:
    """The faster dtype for `task`, of those its recipe allows, and the median seconds of a step in it.

    Trains a copy; `state` and its random numbers are as before.
    """
    device = next(state.model.parameters()).device
    precision = task.recipe.run.precision
    if precision == "auto":
        dtypes = [torch.float32, torch.bfloat16] if has_bfloat16(device) else [torch.float32]
    else:
        dtypes = [torch.float32 if precision == "float32" else torch.bfloat16]
    trial = TrainState.fresh(copy.deepcopy(state.model), task.recipe.optimiser)
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in dtypes}
    for repetition in range(REPETITIONS + 1):
        for dtype in dtypes:
            start = time.perf_counter()
            train_step(trial, replace(task, dtype=dtype), *batch, rate=0.0)
            if repetition:  # the first one is slower: kernels are chosen and memory is taken
                seconds[dtype].append(time.perf_counter() - start)
    medians = {dtype: statistics.median(values) for dtype, values in seconds.items()}
    fastest = min(dtypes, key=lambda dtype: medians[dtype] * (WORTH_IT if dtype == torch.bfloat16 else 1))
    return fastest, medians[fastest]
