"""A training step: ours and the peers', the same optimiser and precision, and what memory each takes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.bench.case import OURS, Case, measure
from megavit.bench.memory import peak_memory
from megavit.bench.peers import installed, suits
from megavit.config.vit import ViTConfig
from megavit.model.cost import training_flops
from megavit.model.vit import MegaVit


def training(name: str, config: ViTConfig, batch: int, device: torch.device, seconds: float, memory: bool) -> Case:
    """Time forward, backward and a fused AdamW step in bfloat16 under autocast.

    Args:
        memory: also measure the peak, each contender in a process of its own.
    """
    builders = builders_of(config)
    images = torch.randn(batch, config.channels, *config.image_hw, device=device)
    labels = torch.arange(batch, device=device) % config.num_classes
    return measure(
        f"{name}, training step, batch {batch}, bfloat16",
        {one: step_of(build(config).to(device), images, labels) for one, build in builders.items()},
        images=batch,
        flops=batch * training_flops(config),
        dtype=torch.bfloat16,
        device=device,
        seconds=seconds,
        memory={one: peak_memory(one, config, batch, device) for one in builders} if memory else None,
    )


def builders_of(config: ViTConfig) -> dict[str, Callable[[ViTConfig], nn.Module]]:
    """Name -> what builds the contender."""
    ours: dict[str, Callable[[ViTConfig], nn.Module]] = {OURS: MegaVit.from_config}
    return ours | (installed(config) if suits(config) else {})


def step_of(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """One training step on a batch, over and over."""
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16):
            loss = F.cross_entropy(model(images).float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step
