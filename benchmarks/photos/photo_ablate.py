"""What each choice of the recipe for photographs is worth, on the validation images of folders, from scratch.

    OMP_NUM_THREADS=1 python -m benchmarks.photos.photo_ablate FOLDER ... --seconds 100 --seeds 0 1 2

Every variant changes the recipe in one place, and gets the same processor seconds, on one thread. The figures go to
results/learning/photo_ablate.json; what is there already is not run again.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.ours import step_at
from benchmarks.learning.results import RESULTS, add_run, is_measured
from benchmarks.photos.photo_peers import ignore_progress
from megavit.config.recipe import DataRecipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.data.load import load_data
from megavit.distributed.context import ParallelContext
from megavit.predict.forward import compute_logits
from megavit.training.context import RunContext
from megavit.training.loop.build import build_training, make_eval_loader, make_train_loader
from megavit.training.progress import NullReporter
from megavit.training.setup.sizes import resolve_sizes

FILE = RESULTS / "photo_ablate.json"
CPU = torch.device("cpu")
# The smallest of the models that a time budget chooses from.
MODEL = {"pretrained": "scratch", "preset": "hybrid-nano", "patch_size": 8, "image_size": 48}
PLAIN = {"preset": "nano", "norm": "layer"}
VARIANTS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "layer norms": {"model": {"norm": "layer"}},
    "five layers": {"model": {"preset": "nano", "norm": "batch"}},
    "five layers with layer norms": {"model": PLAIN},
    "five layers with layer norms, patches instead of convolutions": {"model": PLAIN | {"stem": "patch"}},
    "AdamW": {"optimizer": {"kind": "adamw"}},
    "32 pixels": {"model": {"image_size": 32}},
    "64 pixels": {"model": {"image_size": 64}},
    "patches of 4": {"model": {"patch_size": 4}},
    "batches of 32": {"run": {"batch_size": 32}},
    "batches of 128": {"run": {"batch_size": 128}},
    "learning rate × 1/2": {"optimizer": {"learning_rate": 3e-3}},
    "learning rate × 2": {"optimizer": {"learning_rate": 1.2e-2}},
    "CutMix": {"augment": {"cutmix": 1.0}},
    "no color": {"augment": {"color": 0.0}},
    "crops to 80%": {"augment": {"crop": 0.8}},
    "half of the patches left out early": {"schedule": {"early": 0.7, "patch_drop": 0.5}},
}


def train(folder: str, name: str, seed: int, seconds: float) -> dict[str, Any]:
    """Return the record of one run of `seconds` on the processor, reading not included."""
    dataset = load_data(folder, DataRecipe(), ignore_progress, required_splits=("val", "test"), verify="none")
    recipe = merge(get_recipe("photos"), {"model": MODEL, "run": {"seed": seed, "device": "cpu"}}, "the model")
    # These runs are too short for CutMix.
    recipe = merge(recipe, {"run": {"precision": "float32", "batch_size": 64}, "augment": {"cutmix": 0.0}}, "the run")
    recipe = resolve_sizes(merge(recipe, VARIANTS[name], name), dataset, CPU)
    ctx = RunContext(Path(), dataset, CPU, ParallelContext(), NullReporter())
    state, task = build_training(ctx, recipe)
    batches = make_train_loader(ctx, task).train_batches(task, 0, 10**9)
    began = time.process_time()
    while (progress := (time.process_time() - began) / seconds) < 1:
        step_at(progress, state, task, next(batches))
    val_loader = make_eval_loader(ctx, task, dataset.in_split("val"))
    logits = val_loader.map(
        lambda images: compute_logits(state.ema_model, images, task.preprocessing, task.dtype), ctx.parallel
    )
    return {
        "steps": state.step,
        "epochs": round(state.step * task.batch_size / task.num_images, 1),
        "val_accuracy": round((logits.argmax(dim=1) == val_loader.labels).double().mean().item(), 4),
        "val_images": len(val_loader),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--seconds", type=float, default=100, help="on the processor; default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in arguments.seeds:
        for folder in arguments.folders:
            for name in arguments.variants:
                about = {"data": Path(folder).name, "variant": name, "seed": seed, "seconds": arguments.seconds}
                if not is_measured(arguments.out, about):
                    add_run(arguments.out, about | train(folder, name, seed, arguments.seconds))


if __name__ == "__main__":
    main()
