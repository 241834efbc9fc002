"""`megavit train`."""

import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from megavit.config.recipe import Balance, OnCorrupt, Precision, Rung
from megavit.errors import ConfigError


def train(
    data: Annotated[
        str | None,
        Parameter(help="Folder of class folders, table of path and label(s) or score, shards, or demo:digits."),
    ] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="New folder for the run. Default: runs/NAME-OF-DATA.")] = None,
    resume: Annotated[
        Path | None, Parameter(help="Go on with the run in this folder; with DATA if it has moved.")
    ] = None,
    recipe: Annotated[str, Parameter(help="small, photos, demo, a TOML file, or auto: by the images.")] = "auto",
    init: Annotated[
        str | None,
        Parameter(help="Weights to begin with: a bundle, another library's checkpoint, timm:NAME, hf-hub:USER/NAME."),
    ] = None,
    tune: Annotated[Rung | None, Parameter(help="With --init: what is trained. Default: auto, by its gain.")] = None,
    minutes: Annotated[float | None, Parameter(help="Time for the whole command. Default: 10.")] = None,
    epochs: Annotated[int | None, Parameter(help="Passes over the images, instead of --minutes.")] = None,
    model: Annotated[str | None, Parameter(help="Preset, such as nano, Ti or S. Default: by images and time.")] = None,
    image_size: Annotated[int | None, Parameter(help="Pixels a side. Default: by the images.")] = None,
    patch_size: Annotated[int | None, Parameter(help="Pixels a side. Default: the preset's.")] = None,
    keep_aspect: Annotated[bool | None, Parameter(help="Resize images with their aspect kept; none are mixed.")] = None,
    batch_size: Annotated[int | None, Parameter(help="Images a step. Default: 128, fewer for few images.")] = None,
    gradient_accumulation: Annotated[
        int | None, Parameter(help="Parts of a step, for less memory. Default: as few as fit.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None, Parameter(help="Much less memory, a third more time.", negative="")
    ] = None,
    compile: Annotated[
        bool | None, Parameter(help="Compile each layer: slow first steps, faster ones on a GPU.", negative="")
    ] = None,
    learning_rate: Annotated[float | None, Parameter(help="At its peak.")] = None,
    balance: Annotated[Balance | None, Parameter(help="For classes of very different size. Default: auto.")] = None,
    on_corrupt: Annotated[
        OnCorrupt | None, Parameter(help="Damage in shards: skip, another image stands in (default), or fail.")
    ] = None,
    seed: Annotated[int | None, Parameter(help="Of initial values, order and augmentation. Default: 0.")] = None,
    device: Annotated[str | None, Parameter(help="auto, cpu, cuda or cuda:N.")] = None,
    precision: Annotated[Precision | None, Parameter(help="Default: the faster one, measured.")] = None,
    checkpoint_seconds: Annotated[float | None, Parameter(help="Between checkpoints. Default: 60.")] = None,
    procs: Annotated[int | None, Parameter(help="Processes of this machine to train with. Default: 1.")] = None,
    shard: Annotated[int | None, Parameter(help="Of them, so many hold one copy of the model. Default: 1.")] = None,
    tensor: Annotated[int | None, Parameter(help="Of them, so many compute a layer together. Default: 1.")] = None,
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> int:
    """Train on a folder of images and make a bundle.

    The folder holds one folder of images for each class, alone or under
    train/, val/ and test/. What is held back for validation and test is
    chosen by class and recorded. A run that was stopped goes on with
    --resume.

    With --init a model that was trained before is fitted to the images, the
    cheapest way first: a classifier on its features, then low-rank additions
    (lora), its last layers, all of it, as long as each is better than the
    one before by more than chance.

    Several processes train as one: --procs starts them on this machine, and
    torchrun ... -m megavit train on many. If one dies, all go on from the
    last checkpoint.

    For example: megavit train photos --minutes 20
    """
    changes: dict[str, Any] = {
        "model": {"init": init, "preset": model, "image_size": image_size, "patch_size": patch_size},
        "tune": {"rung": tune},
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
    layout = {"procs": procs, "shard": shard, "tensor": tensor}
    layout = {key: value for key, value in layout.items() if value is not None}
    flags = {table: {key: value for key, value in keys.items() if value is not None} for table, keys in changes.items()}
    if minutes is not None and epochs is not None:
        raise ConfigError("--minutes and --epochs both say how long to train; give one of them")
    if tune is not None and init is None and resume is None:
        raise ConfigError("--tune says how weights that are begun with are fitted; give them with --init BUNDLE")
    if resume is not None and (out is not None or recipe != "auto" or any(flags.values())):
        raise ConfigError("--resume goes on as the run was planned; it takes no other settings")
    if resume is None and data is None:
        raise ConfigError("DATA is missing: megavit train FOLDER, or megavit train --resume RUN")

    base, settings = read_recipe(recipe)
    minutes_before_epochs(settings)
    minutes_before_epochs(flags)
    flags["parallel"] = layout
    settings = {table: settings.get(table, {}) | flags.get(table, {}) for table in settings | flags}
    wanted = settings["parallel"].get("procs") or 1
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
    from megavit.train.progress import NullReporter
    from megavit.train.run import resume as go_on
    from megavit.train.run import train as start

    leads = get_dist_context().is_main_process
    with telling_once(), TerminalWatch() if leads else nullcontext(NullReporter()) as watch:
        if resume is not None:
            trained = go_on(resume, watch=watch, began=began(), parallel=layout, source=data)
        else:
            assert out is not None  # chosen above
            trained = start(str(data), out, recipe=base, changes=settings, watch=watch, began=began())
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
