"""The command `megavit train`."""

import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from megavit.cli.options import Device, Json, LabeledData, Nproc, PresetPatchSize, Seed
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
    balance: Balance | None = None,
    on_corrupt: OnCorrupt | None = None,
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
    then LoRA, the last layers, and all weights, as long as each is
    significantly better than the one before.

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
        "data": {"balance": balance, "keep_aspect": keep_aspect, "on_corrupt": on_corrupt},
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
    layout = {"nproc": nproc, "fsdp": fsdp, "tp": tp}
    layout = {key: value for key, value in layout.items() if value is not None}
    flags = {table: {key: value for key, value in keys.items() if value is not None} for table, keys in changes.items()}
    if minutes is not None and epochs is not None:
        raise ConfigError("--minutes and --epochs both set the length of the training: pass only one of them")
    if finetune is not None and from_ == "scratch":
        raise ConfigError("--finetune needs pretrained weights: name them with --from, or leave it out")
    length = {key: value for key, value in flags["run"].items() if key in ("epochs", "minutes")}
    others = [*(keys for table, keys in flags.items() if table != "run"), flags["run"].keys() - length.keys()]
    if resume is not None and (out is not None or recipe != "auto" or any(others)):
        raise ConfigError(
            "--resume continues the run with its own settings: leave out all others, but --epochs or --minutes, "
            "which extend a finished run"
        )
    if resume is None and data is None:
        raise ConfigError("DATA is missing: megavit train FOLDER, or megavit train --resume RUN")

    base, settings = read_recipe(recipe)
    prefer_minutes(settings)
    prefer_minutes(flags)
    flags["parallel"] = layout
    settings = {table: settings.get(table, {}) | flags.get(table, {}) for table in settings | flags}
    processes = settings["parallel"].get("nproc") or 1
    in_torchrun = "WORLD_SIZE" in os.environ
    if in_torchrun and resume is None and out is None:
        raise ConfigError("all processes need the same folder for the run: pass it with --out")
    use_default = out is None and resume is None
    out = default_out(str(data)) if use_default else out
    if isinstance(processes, int) and processes > 1 and not in_torchrun:
        from megavit.cli.launcher import launch

        arguments = [*sys.argv[1:], *(["--out", str(out)] if use_default else [])]
        return launch(processes, arguments, resume_command="megavit train --resume")

    from megavit.cli.launcher import get_start_time, report_once
    from megavit.cli.render.metrics import show_trained
    from megavit.cli.render.training import TerminalReporter
    from megavit.runtime.process_group import get_dist_context
    from megavit.training.clock import Clock
    from megavit.training.extend import Extension
    from megavit.training.progress import NullReporter
    from megavit.training.run import resume as resume_run
    from megavit.training.run import train as train_run

    is_main = get_dist_context().is_main_process
    clock = Clock(get_start_time())
    with report_once(), TerminalReporter() if is_main else nullcontext(NullReporter()) as reporter:
        if resume is not None:
            extension = Extension(**length) if length else None
            trained = resume_run(
                resume, reporter=reporter, clock=clock, parallel=layout, source=data, extension=extension
            )
        else:
            assert out is not None
            trained = train_run(str(data), out, recipe=base, overrides=settings, reporter=reporter, clock=clock)
    if is_main:
        show_trained(trained, as_json=json)
    return 0


def read_recipe(recipe: str) -> tuple[str, dict[str, Any]]:
    """Return the base recipe's name, and the settings of the TOML file, if it is one; its `base` names the recipe."""
    from megavit.config.checks import check_choice
    from megavit.config.recipes import RECIPES
    from megavit.config.serialization import read_toml

    if recipe == "auto" or recipe in RECIPES:
        return recipe, {}
    if not recipe.endswith(".toml"):
        raise ConfigError(f"recipe must be auto, {', '.join(RECIPES)}, or a TOML file; got {recipe!r}")
    settings = read_toml(Path(recipe))
    base = settings.pop("base", "auto")
    check_choice(f"base in {recipe}", base, ["auto", *RECIPES])
    loose = [name for name, table in settings.items() if not isinstance(table, dict)]
    if loose:
        raise ConfigError(f"{recipe}: {', '.join(loose)} must be in a table such as [run]")
    return base, settings


def prefer_minutes(settings: dict[str, Any]) -> None:
    """Reset the epochs of the base recipe if only minutes are given, which they would override."""
    run = settings.get("run", {})
    if "minutes" in run and "epochs" not in run:
        run["epochs"] = None


def default_out(source: str) -> Path:
    """Return runs/NAME for the data's name, with a number if the folder exists."""
    path = Path(os.path.normpath(Path(source.replace(":", "-")).absolute()))
    name = path.stem if path.suffix in (".csv", ".tsv", ".tar") else path.name or "run"
    name = re.sub(r"[-_.]*\{\d+\.\.\d+\}", "", name) or "run"
    folder = Path("runs") / name
    number = 1
    while folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder
