"""Track the bytes of live tensors and of collectives, without a device or a network."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COLLECTIVES = {
    "_allgather_base_": "all-gather",
    "all_gather_into_tensor": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter",
    "reduce_scatter_tensor": "reduce-scatter",
    "allreduce_": "all-reduce",
    "all_reduce": "all-reduce",
}
NAMESPACES = ("c10d", "_c10d_functional")


class MemoryTracker(TorchDispatchMode):
    """A dispatch mode that tracks the current and peak bytes of tensor storages, and calls and bytes of collectives.

    A storage counts from the first operation that returns or takes it until it is freed. FSDP2 frees and restores
    parameters by resizing storages, which `track_resizes` follows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.peak = 0
        self.communication: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace in NAMESPACES:
            self._count_collective(func, args)
        self.track((result, args, kwargs))
        return result

    def track(self, tree: Any) -> None:
        """Count the storages of all tensors in `tree` that are new or resized."""
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                for part in _plain_tensors(leaf):
                    self._count(part.untyped_storage())

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        size = storage.size()
        known = self._sizes.get(key)
        if known is None:
            weakref.finalize(storage, self._freed, key)
        if known != size:
            self._sizes[key] = size
            self._add(size - (known or 0))

    def _freed(self, key: int) -> None:
        self._add(-self._sizes.pop(key, 0))

    def _add(self, change: int) -> None:
        self.alive += change
        self.peak = max(self.peak, self.alive)

    def _count_collective(self, func: Any, args: Any) -> None:
        name = func._schema.name.partition("::")[2]
        collective = COLLECTIVES.get(name)
        if collective is None:
            return
        tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        # The largest tensor of an all-gather or reduce-scatter is the full one.
        self.communication[collective] += max(tensor.nbytes for tensor in tensors)
        self.calls[collective] += 1


@contextmanager
def track_resizes(tracker: MemoryTracker) -> Iterator[None]:
    """Have `tracker` follow storages that are resized in place."""
    original: Callable[[torch.UntypedStorage, int], Any] = torch.UntypedStorage.resize_

    def resize_(storage: torch.UntypedStorage, size: int) -> Any:
        result = original(storage, size)
        tracker._count(storage)
        return result

    torch.UntypedStorage.resize_ = resize_  # pyrefly: ignore[bad-assignment]
    try:
        yield
    finally:
        torch.UntypedStorage.resize_ = original  # pyrefly: ignore[bad-assignment]


def _plain_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the plain tensors inside a wrapper such as a DTensor, or the tensor itself."""
    if hasattr(tensor, "__tensor_flatten__") and not hasattr(tensor, "fake_mode"):
        names, _ = tensor.__tensor_flatten__()
        for part in (getattr(tensor, name) for name in names):
            if isinstance(part, Tensor):
                yield from _plain_tensors(part)
    else:
        yield tensor
