"""Other libraries' Vision Transformers, each in the recipe its documentation shows and in one tuned for short runs."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import timm.layers
import timm.optim
import torch
from timm.layers.config import use_fused_attn
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from vit_pytorch import ViT

from benchmarks.learning.fashion import Split
from megavit.config.preprocessing import Preprocessing
from megavit.config.recipes import small
from megavit.data.augment import augment, normalize
from megavit.predict.forward import compute_logits
from megavit.runtime.seeds import generator, seed_all

Library = Literal["timm", "vit-pytorch"]
Schedule = Literal["constant", "cosine", "linear"]
Augmentation = Literal["none", "flip", "ours"]

BATCH_SIZE, EVALUATION_BATCH = 128, 250
DIM, DEPTH, HEADS, MLP_DIM = 192, 6, 3, 768
PIXELS = Preprocessing(height=28, width=28, channels=1)


@dataclass(frozen=True, kw_only=True)
class PeerRecipe:
    """How one peer is trained.

    Attributes:
        library: whose model.
        optimizer: "adam", or "adamw" without decay on biases and norms, as timm's factory makes it.
        learning_rate: at its peak.
        schedule: shape of the way down to zero, after `warmup`.
        warmup: share in [0, 1) of the run.
        patch_size: pixels a side.
        augmentation: none, mirrored half of the time, or what megavit's recipe "small" does.
        fused_attention: PyTorch's kernel; vit-pytorch has only plain products.
        fused_optimizer: PyTorch's fused kernel, which is not the default on a CPU.
        bfloat16: autocast.
    """

    library: Library
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    schedule: Schedule = "linear"
    warmup: float = 0.05
    patch_size: int = 7
    augmentation: Augmentation = "none"
    fused_attention: bool = False
    fused_optimizer: bool = True
    bfloat16: bool = True


# What vit-pytorch's README trains with, and the usual arguments of timm's train.py for a ViT.
DOCUMENTED: dict[Library, PeerRecipe] = {
    "vit-pytorch": PeerRecipe(
        library="vit-pytorch",
        optimizer="adam",
        learning_rate=3e-4,
        weight_decay=0.0,
        schedule="constant",
        warmup=0.0,
        fused_optimizer=False,
    ),
    "timm": PeerRecipe(
        library="timm", schedule="cosine", augmentation="flip", fused_attention=True, fused_optimizer=False
    ),
}


class Peer:
    """One run of a peer."""

    def __init__(self, name: str, recipe: PeerRecipe, train: Split, seed: int) -> None:
        self.name, self.recipe, self.train, self.seed = name, recipe, train, seed
        self.steps = 0
        seed_all(seed)
        self.model = build(recipe)
        self.optimizer = make_optimizer(self.model, recipe)
        self.order = torch.empty(0, dtype=torch.long)
        self.description: dict[str, Any] = asdict(recipe)
        self.chosen: dict[str, Any] = {}

    def step(self, progress: float) -> None:
        """Train on one batch, its preparation included; `progress` in [0, 1) is how much of the run is over."""
        seed_all(self.seed, self.steps)
        images, labels = self.batch()
        inputs = vary(images, self.recipe.augmentation)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(progress, self.recipe)
        self.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            logits = self.model(inputs)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.steps += 1

    def batch(self) -> Split:
        """The next images of an endless stream of shuffled epochs; the last, short batch of an epoch is left out."""
        if len(self.order) < BATCH_SIZE:
            random = generator(self.seed, self.steps)
            self.order = torch.randperm(len(self.train.labels), generator=random)
        chosen, self.order = self.order[:BATCH_SIZE], self.order[BATCH_SIZE:]
        return self.train.select(chosen)

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of the images that are classified rightly."""
        dtype = torch.bfloat16 if self.recipe.bfloat16 else torch.float32
        logits = torch.cat(list(compute_logits(self.model, images.split(EVALUATION_BATCH), PIXELS, dtype)))
        return (logits.argmax(dim=1) == labels).float().mean().item()


def build(recipe: PeerRecipe) -> nn.Module:
    """A fresh model with its library's own initial values."""
    if recipe.library == "vit-pytorch":
        return ViT(
            image_size=28,
            patch_size=recipe.patch_size,
            num_classes=10,
            dim=DIM,
            depth=DEPTH,
            heads=HEADS,
            mlp_dim=MLP_DIM,
            channels=1,
        )
    before = bool(use_fused_attn())
    timm.layers.set_fused_attn(recipe.fused_attention)  # read by each layer as it is made
    try:
        return VisionTransformer(
            img_size=28,
            patch_size=recipe.patch_size,
            in_chans=1,
            num_classes=10,
            embed_dim=DIM,
            depth=DEPTH,
            num_heads=HEADS,
            mlp_ratio=MLP_DIM / DIM,
        )
    finally:
        timm.layers.set_fused_attn(before)


def make_optimizer(model: nn.Module, recipe: PeerRecipe) -> torch.optim.Optimizer:
    fused = recipe.fused_optimizer or None
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=fused)
    groups = timm.optim.param_groups_weight_decay(model, recipe.weight_decay)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


def rate_at(progress: float, recipe: PeerRecipe) -> float:
    """The learning rate when `progress` in [0, 1) of the run is over."""
    if progress < recipe.warmup:
        return recipe.learning_rate * max(progress, 1e-3) / recipe.warmup
    done = (progress - recipe.warmup) / (1 - recipe.warmup)
    falling = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return recipe.learning_rate * falling[recipe.schedule]


def vary(images: Tensor, augmentation: Augmentation) -> Tensor:
    """uint8 (B, 1, 28, 28) to the model's input, varied."""
    if augmentation == "ours":
        return normalize(augment(images, PIXELS, small().augment), PIXELS)
    if augmentation == "flip":
        images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
    return normalize(images, PIXELS)
