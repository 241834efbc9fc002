"""The memory of real training steps on this machine beside `megavit plan`'s formula.

    python -m benchmarks.distributed.plan_step [--models B] [--batch 16] [--json FILE]

A step is `megavit.training.loop.step.train_step`, with its optimizer, moving average, gradient clipping and uint8
images; memory is of all tensors alive at once (`megavit.bench.memory`).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from megavit.bench.memory import peak_memory
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.config.recipe import AugmentRecipe, OptimizerKind, OptimizerRecipe, Recipe, ResolvedPrecision, RunRecipe
from megavit.config.target import Target
from megavit.config.vit import ViTConfig
from megavit.model.vit import MegaVit
from megavit.plan.memory import compute_peak_memory
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.training.loop.step import train_step
from megavit.training.optim.loss import CrossEntropy
from megavit.training.state import TrainState
from megavit.training.task import Task


def formula(config: ViTConfig, training: Training, layout: ParallelLayout) -> int:
    return compute_peak_memory(config, training, layout)[1].total


def measure(config: ViTConfig, training: Training, layout: ParallelLayout) -> int:
    """Bytes of a real step of the whole batch in one process; `training.averages` must be 1: nothing is validated."""
    height, width = config.image_hw
    task = Task(
        recipe=Recipe(
            optimizer=OptimizerRecipe(kind=training.optimizer),
            augment=AugmentRecipe(),
            run=RunRecipe(
                epochs=1,
                batch_size=training.batch,
                precision=training.precision,
                gradient_accumulation=layout.gradient_accumulation,
                gradient_checkpointing=layout.gradient_checkpointing,
                device="cpu",
            ),
        ),
        preprocessing=Preprocessing(height=height, width=width, channels=config.channels),
        target=Target(),
        num_classes=config.num_classes,
        loss=CrossEntropy(0.1),
        batch_size=training.batch,
        num_images=1_000,
    )

    def make() -> Callable[[], None]:
        model = MegaVit.from_config(config)
        model.transformer.gradient_checkpointing = layout.gradient_checkpointing
        state = TrainState.create(model, task.recipe.optimizer)
        images = torch.randint(0, 256, (training.batch, config.channels, height, width), dtype=torch.uint8)
        labels = torch.arange(training.batch) % config.num_classes

        def step() -> None:
            train_step(state, task, (images, labels), rate=1.0, steps=10)

        return step

    return peak_memory(make, torch.device("cpu"))


def list_cases(batch: int) -> list[tuple[Training, ParallelLayout]]:
    """Each precision with everything kept, with gradient_checkpointing, and in parts with the other optimizer."""
    settings: list[tuple[OptimizerKind, int, bool]] = [("muon", 1, False), ("muon", 1, True), ("adamw", 4, False)]
    precisions: list[ResolvedPrecision] = ["float32", "bfloat16"]
    return [
        (
            Training(batch=batch, precision=precision, optimizer=optimizer, averages=1, processor=True),
            ParallelLayout(
                micro_batch_size=batch // num_micro_batches,
                gradient_accumulation=num_micro_batches,
                gradient_checkpointing=gradient_checkpointing,
            ),
        )
        for precision in precisions
        for optimizer, num_micro_batches, gradient_checkpointing in settings
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["B"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        for training, layout in list_cases(arguments.batch):
            row = {
                "model": name,
                "batch": training.batch,
                "precision": training.precision,
                "optimizer": training.optimizer,
                "gradient_accumulation": layout.gradient_accumulation,
                "gradient_checkpointing": layout.gradient_checkpointing,
                "formula": formula(preset(name), training, layout),
                "measured": measure(preset(name), training, layout),
            }
            rows.append(row | {"off": round(row["formula"] / row["measured"] - 1, 4)})
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
            sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps({"torch": torch.__version__, "steps": rows}, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    main()
