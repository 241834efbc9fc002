"""Whether a device computes what the CPU does: losses, packed images, resuming, and a group of one process."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.gpu.trainer import Trainer, make_batch, make_trainer
from megavit.config.presets import preset
from megavit.config.recipe import OptimizerKind
from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.distributed.parallelize import make_mesh, parallelize
from megavit.model.attention import can_use_varlen
from megavit.model.vit import MegaVit

BATCH, STEPS = 16, 4
DESIGNS = {
    "megavit": Design(),
    "plain": PLAIN_VIT,
    "hybrid": Design(stem="conv", norm="batch"),
    "rotary": Design(positions="rope", registers=2),
}
# Largest differences of a loss: AdamW's first steps follow the sign of gradients, tiny ones too.
MAX_FLOAT32, MAX_BFLOAT16, MAX_RESUMED = 5e-3, 0.1, 1e-4
MAX_PACKED = 0.05  # of the largest logit


def make_config(device: torch.device, design: Design = DESIGNS["megavit"]) -> ViTConfig:
    """Return a small model whose heads suit the kernels of a GPU, or for a CPU a tiny one."""
    return replace(preset("pico" if device.type == "cpu" else "nano", num_classes=10, design=design), depth=2)


def take_steps(trainer: Trainer, steps: Sequence[int], device: torch.device) -> list[float]:
    return [trainer.step(*make_batch(trainer.model.config, BATCH, device, number)) for number in steps]


def compare_losses(device: torch.device) -> dict[str, Any]:
    """Compare the losses of a few steps with those of the CPU, for each design, optimizer and precision."""
    rows, matmul, cudnn = [], torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        for name, design in DESIGNS.items():
            config = make_config(device, design)
            for optimizer in get_args(OptimizerKind):
                expected = take_steps(
                    make_trainer(config, torch.device("cpu"), optimizer=optimizer, same=True),
                    range(STEPS),
                    torch.device("cpu"),
                )
                for dtype, allowed in ((torch.float32, MAX_FLOAT32), (torch.bfloat16, MAX_BFLOAT16)):
                    found = take_steps(
                        make_trainer(config, device, dtype=dtype, optimizer=optimizer, same=True), range(STEPS), device
                    )
                    error = max(abs(a - b) for a, b in zip(expected, found, strict=True))
                    row = {"design": name, "optimizer": optimizer, "precision": str(dtype).removeprefix("torch.")}
                    rows.append(row | {"loss": found[-1], "error": error, "allowed": allowed, "ok": error <= allowed})
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
    return {"rows": rows, "ok": all(row["ok"] for row in rows)}


def compare_packed(device: torch.device) -> dict[str, Any]:
    """Compare the logits of packed images of different sizes with those of each image alone."""
    torch.manual_seed(0)
    model = MegaVit.from_config(make_config(device, Design(positions="rope"))).to(device).eval()
    side, patch = model.config.image_hw[0], model.config.patch_hw[0]
    sides = [(side, side), (patch, 3 * patch), (3 * patch, patch), (2 * patch, 2 * patch), (side, side)]
    images = [torch.randn(3, *size, device=device) for size in sides]
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            packed = model(images).float()
            alone = torch.cat([model(image[None]) for image in images]).float()
        error = ((packed - alone).abs().max() / alone.abs().max()).item()
        row = {"precision": str(dtype).removeprefix("torch."), "error": error, "allowed": MAX_PACKED}
        head = torch.empty(1, 1, 1, model.config.dim_head, device=device, dtype=dtype)
        rows.append(row | {"varlen kernel": can_use_varlen(head), "ok": error <= MAX_PACKED})
    return {"rows": rows, "ok": all(row["ok"] for row in rows)}


def compare_resumed(device: torch.device) -> dict[str, Any]:
    """Compare the losses after a state was saved and loaded with those of a run that went on."""
    config, half = make_config(device), STEPS // 2
    trainer = make_trainer(config, device)
    take_steps(trainer, range(half), device)
    state = trainer.state()
    expected = take_steps(trainer, range(half, STEPS), device)
    resumed = make_trainer(config, device)
    resumed.load(state)
    found = take_steps(resumed, range(half, STEPS), device)
    error = max(abs(a - b) for a, b in zip(expected, found, strict=True))
    return {"identical": expected == found, "error": error, "allowed": MAX_RESUMED, "ok": error <= MAX_RESUMED}


def compare_group(device: torch.device) -> dict[str, Any]:
    """Compare the losses of DDP and FSDP2 in a group of one process with those without."""
    from torch.distributed.fsdp import fully_shard

    backend, config = "nccl" if device.type == "cuda" else "gloo", make_config(device)
    images, labels = make_batch(config, BATCH, device)
    alone = make_trainer(config, device, same=True)
    expected = gradient_norm(alone.model, alone, images, labels)
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        total = torch.ones(4, device=device)
        dist.all_reduce(total)
        rows = [{"way": "all-reduce", "found": total.sum().item(), "expected": 4.0}]
        for way in ("DDP", "FSDP2"):
            trainer = make_trainer(config, device, same=True)
            mesh = make_mesh(1, 1, 1, device.type)
            called: nn.Module = trainer.model
            if way == "DDP":
                called = parallelize(trainer.model, mesh, trained=True)
            else:
                for part in (*trainer.model.transformer.layers, trainer.model):
                    fully_shard(part, mesh=mesh["shard"])
            rows.append({"way": way, "found": gradient_norm(called, trainer, images, labels), "expected": expected})
    finally:
        dist.destroy_process_group()
    for row in rows:
        row["ok"] = abs(row["found"] - row["expected"]) <= 1e-3 * row["expected"]
    return {"backend": backend, "rows": rows, "ok": all(row["ok"] for row in rows)}


def gradient_norm(called: nn.Module, trainer: Trainer, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the norm of all gradients of a step."""
    trainer.called = called
    trainer.loss(images, labels).backward()
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    local = [g.to_local() if hasattr(g, "to_local") else g for g in gradients]  # pyrefly: ignore
    return torch.stack([g.float().square().sum() for g in local]).sum().sqrt().item()
