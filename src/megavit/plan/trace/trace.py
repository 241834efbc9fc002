"""Trace a step of one rank of a cluster with fake tensors, fake process groups and PyTorch's own parallelism."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.distributed.grad_sync import no_sync
from megavit.distributed.parallelize import make_mesh, parallelize
from megavit.model import attention
from megavit.model.vit import MegaVit
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.plan.trace.memory_tracker import MemoryTracker, track_resizes


@dataclass(frozen=True)
class TraceResult:
    """The memory and communication of one rank in its forward and backward passes.

    Attributes:
        memory: peak bytes, without optimizer and averages.
        stored: number of parameters stored on the rank, with padding.
        communication: bytes of full tensors by collective, as in `megavit.plan.communication`.
    """

    memory: int
    stored: int
    communication: Counter[str]
    calls: Counter[str]


def trace(config: ViTConfig, training: Training, layout: ParallelLayout) -> TraceResult:
    """Trace the forward and backward passes of one step on rank 0, without its optimizer."""
    with fake_process_group(layout.gpus), gpu_attention(training):
        with FakeTensorMode() as fake:
            model = fake_model(config).train()
        model.transformer.gradient_checkpointing = layout.gradient_checkpointing
        # Outside the mode, because the mesh needs real tensors of ranks.
        wrapped = parallelize_as_trained(model, training, layout)
        with fake:
            return _passes(config, training, layout, wrapped)


def _passes(config: ViTConfig, training: Training, layout: ParallelLayout, wrapped: nn.Module) -> TraceResult:
    images = layout.micro_batch_size * layout.gradient_accumulation
    tracker = MemoryTracker()
    with track_resizes(tracker), tracker:
        inputs = torch.empty(images, config.channels, *config.image_hw)
        unnormalized = torch.empty_like(inputs, dtype=torch.uint8)
        targets = torch.empty(images, max(1, config.num_classes))
        tracker.track([*wrapped.parameters(), *wrapped.buffers(), inputs, targets])
        stored = sum(_local_size(parameter) for parameter in wrapped.parameters())
        micro_batches = zip(inputs.split(layout.micro_batch_size), targets.split(layout.micro_batch_size), strict=True)
        for index, (micro_batch, target) in enumerate(micro_batches, start=1):
            last = index == layout.gradient_accumulation
            if isinstance(wrapped, SummedGradients):
                wrapped.last = last
            with no_sync(wrapped, enabled=not last):
                step(wrapped, micro_batch, target, layout.numerics(training).autocast)
        del unnormalized
    return TraceResult(tracker.peak, stored, tracker.communication, tracker.calls)


def step(model: nn.Module, images: Tensor, targets: Tensor, autocast: bool) -> None:
    """Run forward and backward passes like `megavit.training.loop.step.backward`."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        logits = model(images)
    F.cross_entropy(logits.float(), targets).backward()


@contextmanager
def fake_process_group(count: int) -> Iterator[None]:
    """Initialize a fake process group of `count` ranks, of which only rank 0 exists."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def gpu_attention(training: Training) -> Iterator[None]:
    """Disable eager CPU attention while a plan for GPUs is traced on a CPU."""
    before = attention.MAX_EAGER_TOKENS
    attention.MAX_EAGER_TOKENS = before if training.processor else 0  # pyrefly: ignore[bad-assignment]
    try:
        yield
    finally:
        attention.MAX_EAGER_TOKENS = before


def fake_model(config: ViTConfig) -> MegaVit:
    """Return a model of fake tensors without initial values."""
    with torch.device("meta"):
        model = MegaVit.from_config(config)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape)))
    return model


def parallelize_as_trained(model: MegaVit, training: Training, layout: ParallelLayout) -> nn.Module:
    """Parallelize the model over the fake ranks as `megavit train` does."""
    if layout.gpus == 1:
        return model
    if not layout.fully_sharded:
        return SummedGradients(model)
    dtype = torch.bfloat16 if training.precision == "bfloat16" else torch.float32
    return parallelize(
        model, make_mesh(layout.replicate, layout.shard, layout.tensor, "cpu"), trained=True, dtype=dtype
    )


class SummedGradients(nn.Module):
    """A replacement for DDP, which fake tensors do not support; with `last`, gradients are copied and all-reduced."""

    last = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        for index, parameter in enumerate(model.parameters()):
            self.register_buffer(f"bucket_{index}", torch.empty_like(parameter))
            parameter.register_post_accumulate_grad_hook(partial(self._send, bucket=f"bucket_{index}"))

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def _send(self, parameter: Tensor, bucket: str) -> None:
        assert parameter.grad is not None
        if not self.last:
            return
        copy = self.get_buffer(bucket).copy_(parameter.grad)
        dist.all_reduce(copy)
        parameter.grad.copy_(copy)


def _local_size(parameter: Tensor) -> int:
    local = parameter.to_local() if hasattr(parameter, "to_local") else parameter  # pyrefly: ignore
    return local.untyped_storage().nbytes() // local.element_size()
