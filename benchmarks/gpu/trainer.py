"""A training step as megavit's, from parts that need nothing but PyTorch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.recipe import OptimizerKind, OptimizerRecipe
from megavit.config.vit import ViTConfig
from megavit.distributed.context import ParallelContext
from megavit.model.vit import MegaVit
from megavit.training.optim.muon import Muon
from megavit.training.optim.optimizer import make_optimizers, update_ema

EMA_STEPS = 1000


@dataclass
class Trainer:
    """A model in training: uint8 images in, the loss out.

    Attributes:
        called: what computes the forward pass; the model itself, or what wraps it.
        dtype: data type of the matrix products.
    """

    model: MegaVit
    average: MegaVit
    optimizers: Sequence[torch.optim.Optimizer]
    dtype: torch.dtype
    called: nn.Module
    parallel: ParallelContext = field(default_factory=ParallelContext)
    steps: int = 0

    def step(self, images: Tensor, labels: Tensor) -> float:
        """Take a step on uint8 images (B, C, height, width) and classes (B,) on the model's device."""
        self.model.train()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = self.loss(images, labels)
        loss.backward()
        norm = self.parallel.clip_grad_norm(self.model, 1.0)
        value, _ = torch.stack([loss.detach(), norm]).tolist()
        self.update()
        return value

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            logits = self.called((images.float() / 255 - 0.5) / 0.5)
        return F.cross_entropy(logits.float(), labels, label_smoothing=0.1)

    def update(self) -> None:
        """Step the optimizers, and the moving average."""
        for optimizer in self.optimizers:
            optimizer.step()
        self.steps += 1
        update_ema(self.average, self.model, EMA_STEPS, self.steps)

    def state(self) -> dict[str, Any]:
        parts = {"model": self.model, "average": self.average} | dict(enumerate(self.optimizers))
        return {str(name): copy.deepcopy(part.state_dict()) for name, part in parts.items()} | {"steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        for name, part in ({"model": self.model, "average": self.average} | dict(enumerate(self.optimizers))).items():
            part.load_state_dict(state[str(name)])
        self.steps = state["steps"]


def make_trainer(
    config: ViTConfig,
    device: torch.device,
    *,
    dtype: torch.dtype = torch.float32,
    optimizer: OptimizerKind = "muon",
    same: bool = False,
) -> Trainer:
    """Return a trainer of a new model.

    Args:
        same: whether every device starts from the same weights, and Muon computes in float32 on each.
    """
    torch.manual_seed(0)
    with torch.device("cpu" if same else device):
        model = MegaVit.from_config(config)
    model.to(device)
    recipe = replace(OptimizerRecipe(), kind=optimizer, learning_rate=1e-3)
    optimizers = make_optimizers(model, recipe)
    for one in optimizers:
        if same and isinstance(one, Muon):
            one.dtype = torch.float32
        for group in one.param_groups:
            group["lr"] = group["peak"]
    return Trainer(model, copy.deepcopy(model), optimizers, dtype, model)


def make_batch(config: ViTConfig, count: int, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return noise, and classes that can be learned from its brightness."""
    random = torch.Generator().manual_seed(seed)
    classes = max(2, config.num_classes)
    labels = torch.randint(0, classes, (count,), generator=random)
    shape = (count, config.channels, *config.image_hw)
    noise = torch.randint(0, 128, shape, generator=random, dtype=torch.uint8)
    brighter = (labels * 127 // classes).to(torch.uint8)
    return (noise + brighter.view(-1, 1, 1, 1)).to(device), labels.to(device)
