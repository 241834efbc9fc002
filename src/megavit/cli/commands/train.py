"""`megavit train`."""

import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from megavit.cli.options import GLOBAL_BATCH_SIZE, PATCH_SIZE, SEED, Device, Json, LabeledData, Nproc
from megavit.config.recipe import Balance, OnCorrupt, Precision, Rung
from megavit.errors import ConfigError


def train(
    data: Annotated[LabeledData | None, Parameter()] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="New folder for the run. Default: runs/NAME-OF-DATA.")] = None,
    resume: Annotated[
        Path | None, Parameter(help="Resume the run in this folder; add DATA if the images have been moved.")
    ] = None,
    recipe: Annotated[
        str, Parameter(help="Training recipe: small, photos, demo, a TOML file, or auto to choose by the images.")
    ] = "auto",
    init: Annotated[
        str | None,
        Parameter(
            help="Pretrained weights to start from: a bundle, another library's checkpoint, timm:NAME, or "
            "hf-hub:USER/NAME."
        ),
    ] = None,
    finetune: Annotated[
        Rung | None, Parameter(help="With --init: which weights to train. Default: auto, chosen on validation images.")
    ] = None,
    minutes: Annotated[
        float | None, Parameter(help="Time budget in minutes for the whole command. Default: 10.")
    ] = None,
    epochs: Annotated[int | None, Parameter(help="Number of epochs, instead of --minutes.")] = None,
    model: Annotated[
        str | None, Parameter(help="Model preset, such as nano, Ti or S. Default: chosen by images and time budget.")
    ] = None,
    image_size: Annotated[int | None, Parameter(help="Image size in pixels. Default: chosen by the images.")] = None,
    patch_size: Annotated[int | None, Parameter(help=PATCH_SIZE)] = None,
    keep_aspect: Annotated[
        bool | None,
        Parameter(
            help="Keep the images' aspect ratio when resizing (rules out mixup and CutMix).",
            negative="--no-keep-aspect",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, Parameter(help=f"{GLOBAL_BATCH_SIZE} Default: 128, fewer for few images.")
    ] = None,
    gradient_accumulation: Annotated[
        int | None, Parameter(help="Micro-batches per optimizer step, to save memory. Default: as few as fit.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None, Parameter(help="Recompute activations in the backward pass: far less memory, a third more time.")
    ] = None,
    compile: Annotated[
        bool | None, Parameter(help="Compile the model with torch.compile: slow first steps, faster ones on a GPU.")
    ] = None,
    learning_rate: Annotated[float | None, Parameter(help="Peak learning rate. Default: the recipe's.")] = None,
    balance: Annotated[
        Balance | None, Parameter(help="Method against class imbalance. Default: auto, chosen by the class sizes.")
    ] = None,
    on_corrupt: Annotated[
        OnCorrupt | None,
        Parameter(help="What to do about damaged images in shards: skip replaces them by others. Default: skip."),
    ] = None,
    seed: Annotated[int | None, Parameter(help=SEED)] = None,
    device: Device | None = None,
    precision: Annotated[
        Precision | None, Parameter(help="Numeric precision. Default: the faster one, measured.")
    ] = None,
    checkpoint_seconds: Annotated[float | None, Parameter(help="Seconds between checkpoints. Default: 60.")] = None,
    nproc: Nproc = None,
    fsdp: Annotated[
        int | None, Parameter(help="FSDP group size: processes that share one copy of the model. Default: 1.")
    ] = None,
    tp: Annotated[
        int | None, Parameter(help="Tensor parallel group size: processes that split each layer. Default: 1.")
    ] = None,
    json: Json = False,
) -> int:
    """Train a Vision Transformer on your images and write it as a bundle.

    DATA is a folder with one subfolder per class, directly or under train/,
    val/ and test/; missing validation and test splits are drawn class by
    class and recorded. An interrupted run continues with --resume.

    With --init a pretrained model is fine-tuned, the cheapest method first:
    a linear probe on frozen features, then LoRA, the last layers, and all
    weights, as long as each is significantly better than the one before.

    Several processes can train one model: --nproc starts them on this
    machine, torchrun ... -m megavit train on several machines. If one dies,
    all restart from the last checkpoint.

    For example: megavit train photos --minutes 20
    """
    changes: dict[str, Any] = {
        "model": {"init": init, "preset": model, "image_size": image_size, "patch_size": patch_size},
        "tune": {"rung": finetune},
        "data": {"balance": balance, "keep_aspect": keep_aspect, "on_corrupt": on_corrupt},
        "optimizer": {"learning_rate": learning_rate},
        "run": {
            "minutes": minutes,
            "epochs": epochs,
            "batch_size": batch_size,
            "gradient_accumulation": gradient_accumulation,
            "gradient_checkpointing": gradient_checkpointing,
            "compile": compile,
            "seed": seed,
            "device": device,
            "precision": precision,
            "checkpoint_seconds": checkpoint_seconds,
        },
    }
    layout = {"nproc": nproc, "fsdp": fsdp, "tp": tp}
    layout = {key: value for key, value in layout.items() if value is not None}
    flags = {table: {key: value for key, value in keys.items() if value is not None} for table, keys in changes.items()}
    if minutes is not None and epochs is not None:
        raise ConfigError("--minutes and --epochs both say how long to train; give one of them")
    if finetune is not None and init is None and resume is None:
        raise ConfigError("--finetune needs pretrained weights; give them with --init BUNDLE")
    if resume is not None and (out is not None or recipe != "auto" or any(flags.values())):
        raise ConfigError("--resume goes on as the run was planned; it takes no other settings")
    if resume is None and data is None:
        raise ConfigError("DATA is missing: megavit train FOLDER, or megavit train --resume RUN")

    base, settings = read_recipe(recipe)
    minutes_before_epochs(settings)
    minutes_before_epochs(flags)
    flags["parallel"] = layout
    settings = {table: settings.get(table, {}) | flags.get(table, {}) for table in settings | flags}
    wanted = settings["parallel"].get("nproc") or 1
    started = "WORLD_SIZE" in os.environ
    if started and resume is None and out is None:
        raise ConfigError("the processes must agree on a folder for the run: name it with --out")
    chosen = out is None and resume is None
    out = default_out(str(data)) if chosen else out
    if isinstance(wanted, int) and wanted > 1 and not started:
        from megavit.cli.launcher import launch

        arguments = [*sys.argv[1:], *(["--out", str(out)] if chosen else [])]
        return launch(wanted, arguments, go_on="megavit train --resume")

    from megavit.cli.launcher import began, telling_once
    from megavit.cli.render.metrics import show_trained
    from megavit.cli.render.training import TerminalWatch
    from megavit.runtime.process_group import get_dist_context
    from megavit.train.clock import Clock
    from megavit.train.progress import NullReporter
    from megavit.train.run import resume as go_on
    from megavit.train.run import train as start

    leads = get_dist_context().is_main_process
    with telling_once(), TerminalWatch() if leads else nullcontext(NullReporter()) as watch:
        if resume is not None:
            trained = go_on(resume, reporter=watch, clock=Clock(began()), parallel=layout, source=data)
        else:
            assert out is not None  # chosen above
            trained = start(str(data), out, recipe=base, overrides=settings, reporter=watch, clock=Clock(began()))
    if leads:
        show_trained(trained, as_json=json)
    return 0


def read_recipe(recipe: str) -> tuple[str, dict[str, Any]]:
    """The name of the recipe to begin with, and the settings of the TOML file, if it is one.

    The file's `base` names the recipe that it changes; without it the choice is automatic.
    """
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
    wrong = [name for name, table in settings.items() if not isinstance(table, dict)]
    if wrong:
        raise ConfigError(f"{recipe}: {', '.join(wrong)} must stand in a table, such as [run]")
    return base, settings


def minutes_before_epochs(settings: dict[str, Any]) -> None:
    """Where minutes are given and epochs are not, those of an earlier recipe are taken back: they would go first."""
    run = settings.get("run", {})
    if "minutes" in run and "epochs" not in run:
        run["epochs"] = None


def default_out(source: str) -> Path:
    """runs/NAME for the data's name; with a number where there is such a run already."""
    path = Path(os.path.normpath(Path(source.replace(":", "-")).absolute()))  # ".." is no name
    name = path.stem if path.suffix in (".csv", ".tsv", ".tar") else path.name or "run"
    name = re.sub(r"[-_.]*\{\d+\.\.\d+\}", "", name) or "run"  # of several shards
    folder = Path("runs") / name
    number = 1
    while folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder
