"""Gradient accumulation with one gradient synchronization per step."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def no_sync(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Defer gradient averaging during the passes of a micro-batch, for a model from `parallelize`.

    Gradient shards are still reduced in each micro-batch, to avoid keeping full gradients; only the reduction over
    replicas is deferred.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_all_reduce(not enabled)
    with model.no_sync() if enabled and isinstance(model, DistributedDataParallel) else nullcontext():
        yield
