"""A model of two kinds of blocks, and layouts, small enough to trace in a second."""

from dataclasses import replace
from typing import Any

from megavit.config.presets import preset
from megavit.config.vit import ViTConfig
from megavit.plan.parallel_layout import ParallelLayout, Training

SERIAL = replace(preset("Ti", num_classes=100), depth=4)
# The design of ViT-22B, whose attention pool is large.
PARALLEL = replace(preset("22B", num_classes=100), dim=256, depth=4, heads=8, dim_head=64, mlp_dim=1024)
MODELS: dict[str, ViTConfig] = {"serial": SERIAL, "parallel": PARALLEL}


def make_layout(
    replicate: int = 1,
    shard: int = 1,
    tensor: int = 1,
    micro_batch_size: int = 8,
    gradient_accumulation: int = 1,
    gradient_checkpointing: bool = False,
) -> ParallelLayout:
    return ParallelLayout(
        replicate=replicate,
        shard=shard,
        tensor=tensor,
        micro_batch_size=micro_batch_size,
        gradient_accumulation=gradient_accumulation,
        gradient_checkpointing=gradient_checkpointing,
    )


def make_training(of: ParallelLayout, **changes: Any) -> Training:
    return replace(Training(batch=of.batch, optimizer="adamw"), **changes)
