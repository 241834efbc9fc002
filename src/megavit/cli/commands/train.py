"""The command `megavit train`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from megavit.api.settings import default_out, read_settings
from megavit.cli.options import (
    Device,
    ImageRoot,
    Json,
    LabelColumn,
    LabeledData,
    Nproc,
    PathColumn,
    PresetPatchSize,
    Seed,
)
from megavit.config.recipe import Balance, FinetuneMethod, OnCorrupt, Precision, TrackerName
from megavit.errors import ConfigError


def train(
    data: LabeledData | None = None,
    /,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    recipe: str = "auto",
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    finetune: FinetuneMethod | None = None,
    teacher: str | None = None,
    unlabeled: str | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    model: str | None = None,
    image_size: int | None = None,
    patch_size: PresetPatchSize = None,
    keep_aspect: Annotated[bool | None, Parameter(negative="--no-keep-aspect")] = None,
    batch_size: int | None = None,
    gradient_accumulation: int | None = None,
    gradient_checkpointing: bool | None = None,
    compile: bool | None = None,
    learning_rate: float | None = None,
    folds: int | None = None,
    balance: Balance | None = None,
    on_corrupt: OnCorrupt | None = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    image_root: ImageRoot = None,
    seed: Seed = None,
    device: Device | None = None,
    precision: Precision | None = None,
    checkpoint_seconds: float | None = None,
    log_seconds: float | None = None,
    track: TrackerName | None = None,
    nproc: Nproc = None,
    fsdp: int | None = None,
    tp: int | None = None,
    json: Json = False,
) -> int:
    """Train a Vision Transformer on your images and write it as a bundle.

    DATA is a folder with one subfolder per class, directly or under train/,
    val/ and test/; missing validation and test splits are drawn class by
    class and recorded. An interrupted run continues with --resume.

    Photographs start from a backbone, a pretrained model, if one is at hand
    or can be fetched; what is used, and its license, is said. It is
    fine-tuned, the cheapest method first: a linear probe on frozen features,
    then the last layers, LoRA, and all weights, as far as the time goes.
    The best on held-out images is kept.

    Several processes can train one model: --nproc starts them on this
    machine, torchrun ... -m megavit train on several machines. If one dies,
    all restart from the last checkpoint.

    For example: megavit train photos --minutes 20

    Args:
        out: New folder for the run. Default: runs/NAME-OF-DATA.
        resume: Resume the run in this folder; add DATA if the images have been moved, and --epochs or --minutes to
            extend the run after its end by as many more, such as --minutes +10.
        recipe: Training recipe: small, photos, demo, a TOML file, or auto to choose by the images.
        from_: Weights to start from: auto, scratch, a name of megavit backbones, a bundle, another library's
            checkpoint, timm:NAME, or hf-hub:USER/NAME. Default: auto for photographs, else scratch.
        finetune: With pretrained weights: which of them to train. Default: auto, the best on held-out images.
        teacher: Larger model that the trained one imitates from scratch, beside the labels: a source as for --from.
        unlabeled: Images without labels, a folder or shards: with pretrained weights, those whose predicted class is
            likely are trained on too, if that is better in cross-validation.
        minutes: Time budget in minutes for the whole command. Default: 10.
        epochs: Number of epochs, instead of --minutes.
        patience: With --epochs, from scratch: stop after as many epochs without a better validation.
        model: Model preset, such as nano, Ti or S. Default: chosen by images and time budget.
        image_size: Image size in pixels. Default: chosen by the images.
        keep_aspect: Keep the images' aspect ratio when resizing (rules out mixup and CutMix).
        batch_size: Images per optimizer step, over all processes. Default: 128, fewer for few images.
        gradient_accumulation: Micro-batches per optimizer step, to save memory. Default: as few as fit.
        gradient_checkpointing: Recompute activations in the backward pass: far less memory, a third more time.
        compile: Compile the model with torch.compile: slow first steps, faster ones on a GPU.
        learning_rate: Peak learning rate. Default: the recipe's.
        folds: Cross-validate: train as many models, each tested on images that no other is; --minutes are for all.
        balance: Method against class imbalance. Default: auto, chosen by the class sizes.
        on_corrupt: What to do about damaged images in shards: skip replaces them by others. Default: skip.
        precision: Numeric precision. Default: the faster one, measured.
        checkpoint_seconds: Seconds between checkpoints. Default: 60.
        log_seconds: Seconds between two lines about steps in the run's log.jsonl. Default: 10.
        track: Experiment tracker that the log is forwarded to, whose package must be installed.
        fsdp: FSDP group size: processes that share one copy of the model. Default: 1.
        tp: Tensor parallel group size: processes that split each layer. Default: 1.
    """
    changes: dict[str, Any] = {
        "model": {"pretrained": from_, "preset": model, "image_size": image_size, "patch_size": patch_size},
        "finetune": {"method": finetune},
        "distillation": {"teacher": teacher},
        "pseudo_labels": {"unlabeled": unlabeled},
        "data": {
            "folds": folds,
            "balance": balance,
            "keep_aspect": keep_aspect,
            "on_corrupt": on_corrupt,
            "path_column": path_column,
            "label_column": label_column,
            "image_root": None if image_root is None else str(image_root),
        },
        "optimizer": {"learning_rate": learning_rate},
        "run": {
            "minutes": minutes,
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "gradient_accumulation": gradient_accumulation,
            "gradient_checkpointing": gradient_checkpointing,
            "compile": compile,
            "seed": seed,
            "device": device,
            "precision": precision,
            "checkpoint_seconds": checkpoint_seconds,
            "log_seconds": log_seconds,
            "track": track,
        },
    }
    settings = {table: {key: value for key, value in keys.items() if value is not None}
                for table, keys in changes.items()}  # fmt: skip
    others = [key for keys in settings.values() for key in keys if key not in ("epochs", "minutes")]
    if resume is not None and (out is not None or recipe != "auto" or others):
        raise ConfigError(
            "--resume continues the run with its own settings: leave out all others, but --epochs or --minutes, "
            "which extend a finished run"
        )
    if resume is None and data is None:
        raise ConfigError("DATA is missing: megavit train FOLDER, or megavit train --resume RUN")
    settings["parallel"] = {
        key: value for key, value in (("nproc", nproc), ("fsdp", fsdp), ("tp", tp)) if value is not None
    }
    processes = read_settings(recipe, settings).nproc
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        from megavit.cli.launcher import launch

        # All processes need the same folder.
        folder = ["--out", str(default_out(str(data)))] if out is None and resume is None else []
        return launch(processes, [*sys.argv[1:], *folder], resume_command="megavit train --resume")

    from megavit.api import train as api
    from megavit.cli.launcher import get_start_time, report_once
    from megavit.cli.render.metrics import show_trained
    from megavit.runtime.process_group import get_dist_context
    from megavit.training.clock import Clock

    clock = Clock(get_start_time())
    with report_once():
        if resume is None:
            trained = api.train(str(data), out=out, recipe=recipe, settings=settings, reporter="terminal", clock=clock)
        else:
            parallel = {"parallel": settings["parallel"]}
            trained = api.resume(
                resume, data, epochs=epochs, minutes=minutes, settings=parallel, reporter="terminal", clock=clock
            )
    if get_dist_context().is_main_process:
        show_trained(trained, as_json=json)
    return 0
