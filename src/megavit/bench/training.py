"""A training step: ours and the peers', the same optimizer and precision, and what memory each takes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.bench.case import OURS, Case, measure
from megavit.bench.memory import peak_memory
from megavit.bench.peers import installed, suits
from megavit.config.vit import ViTConfig
from megavit.model.statistics import training_flops
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16

CHECKPOINTED = f"{OURS}, gradient checkpointing"


def training(name: str, config: ViTConfig, batch: int, device: torch.device, seconds: float) -> Case:
    """Time forward, backward and a fused AdamW step, and measure its memory.

    In bfloat16 under autocast where the device multiplies it without emulation, else in float32.
    """
    dtype = torch.bfloat16 if has_bfloat16(device) else torch.float32
    images = torch.randn(batch, config.channels, *config.image_hw, device=device)
    labels = torch.arange(batch, device=device) % config.num_classes
    makers = {
        one: lambda build=build: step_of(build(config).to(device), images, labels, dtype)
        for one, build in builders_of(config).items()
    }
    memory = {one: peak_memory(make, device) for one, make in makers.items()}
    return measure(
        f"{name}, training step, batch {batch}, {str(dtype).removeprefix('torch.')}",
        {one: make() for one, make in makers.items()},
        images=batch,
        flops=batch * training_flops(config),
        dtype=dtype,
        device=device,
        seconds=seconds,
        memory=memory,
    )


def builders_of(config: ViTConfig) -> dict[str, Callable[[ViTConfig], nn.Module]]:
    """Name -> what builds the contender."""
    ours: dict[str, Callable[[ViTConfig], nn.Module]] = {OURS: MegaVit.from_config, CHECKPOINTED: _checkpointed}
    return ours | (installed(config) if suits(config) else {})


def _checkpointed(config: ViTConfig) -> MegaVit:
    model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = True
    return model


def step_of(model: nn.Module, images: Tensor, labels: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """Return a training step on one batch, computed in `dtype`: float32, or another under autocast."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
