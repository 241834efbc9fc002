"""Benchmark the time and memory of a training step of megavit and its peers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.bench.case import OURS, Case, run_case
from megavit.bench.memory import peak_memory
from megavit.bench.peers import fits_peers, get_installed_peers
from megavit.config.vit import ViTConfig
from megavit.model.statistics import training_flops
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16

CHECKPOINTED = f"{OURS}, gradient checkpointing"


def benchmark_training(name: str, config: ViTConfig, batch: int, device: torch.device, seconds: float) -> Case:
    """Time forward, backward and a fused AdamW step, in bfloat16 if supported, and measure the peak memory."""
    dtype = torch.bfloat16 if has_bfloat16(device) else torch.float32
    images = torch.randn(batch, config.channels, *config.image_hw, device=device)
    labels = torch.arange(batch, device=device) % config.num_classes
    makers = {
        contender: lambda build=build: make_step(build(config).to(device), images, labels, dtype)
        for contender, build in get_builders(config).items()
    }
    measurable = makers if device.type != "mps" else {}
    memory = {contender: peak_memory(make, device) for contender, make in measurable.items()}
    return run_case(
        f"{name}, training step, batch {batch}, {str(dtype).removeprefix('torch.')}",
        {contender: make() for contender, make in makers.items()},
        images=batch,
        flops=batch * training_flops(config),
        dtype=dtype,
        device=device,
        seconds=seconds,
        memory=memory,
    )


def get_builders(config: ViTConfig) -> dict[str, Callable[[ViTConfig], nn.Module]]:
    """Return the function that builds each contender, by name."""
    ours: dict[str, Callable[[ViTConfig], nn.Module]] = {OURS: MegaVit.from_config, CHECKPOINTED: _checkpointed}
    return ours | (get_installed_peers(config) if fits_peers(config) else {})


def _checkpointed(config: ViTConfig) -> MegaVit:
    model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = True
    return model


def make_step(model: nn.Module, images: Tensor, labels: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """Return a training step on one batch, in float32 or with autocast to another `dtype`."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
