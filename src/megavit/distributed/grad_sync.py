"""A step in several parts: what the parts add up to is sent to the other processes once, not after each part."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def partly(model: nn.Module, *, last: bool) -> Iterator[None]:
    """Around the forward and backward pass of one part of a step, by a model that `parallelize` divided.

    Shards of gradients are summed in each part, or every process would have to keep whole ones; the sums of several
    copies only with the `last` part.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_all_reduce(last)
    whole = isinstance(model, DistributedDataParallel) and not last
    with model.no_sync() if whole else nullcontext():
        yield
