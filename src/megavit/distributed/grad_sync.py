"""Gradient accumulation: gradients are averaged over the processes once a step, not after each micro-batch."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def no_sync(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Leave out the averaging of gradients in the passes of a micro-batch, by a model that `parallelize` divided.

    Shards of gradients are summed in each micro-batch all the same, or every process would have to keep whole
    gradients; only the sums over replicas wait.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_all_reduce(not enabled)
    with model.no_sync() if enabled and isinstance(model, DistributedDataParallel) else nullcontext():
        yield
