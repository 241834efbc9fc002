"""A model of two kinds of blocks, and layouts, small enough to trace in a second."""

from dataclasses import replace
from typing import Any

from megavit.config.presets import preset
from megavit.config.vit import ViTConfig
from megavit.plan.parallel_layout import Layout, Training

SERIAL = replace(preset("Ti", num_classes=100), depth=4)
# The design of ViT-22B, whose attention pool is large.
PARALLEL = replace(preset("22B", num_classes=100), dim=256, depth=4, heads=8, dim_head=64, mlp_dim=1024)
MODELS: dict[str, ViTConfig] = {"serial": SERIAL, "parallel": PARALLEL}


def make_layout(
    replicate: int = 1,
    shard: int = 1,
    tensor: int = 1,
    micro_batch: int = 8,
    accumulation: int = 1,
    checkpointing: bool = False,
) -> Layout:
    return Layout(
        replicate=replicate,
        shard=shard,
        tensor=tensor,
        micro_batch=micro_batch,
        accumulation=accumulation,
        checkpointing=checkpointing,
    )


def make_training(of: Layout, **changes: Any) -> Training:
    return replace(Training(batch=of.batch, optimizer="adamw"), **changes)
