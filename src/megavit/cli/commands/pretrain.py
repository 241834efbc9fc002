"""The command `megavit pretrain`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from megavit.api.settings import default_out, read_settings
from megavit.cli.options import Device, ImageRoot, Json, LabelColumn, Nproc, PathColumn, Seed, name_columns
from megavit.config.recipe import Precision
from megavit.errors import ConfigError


def pretrain(
    data: str | None = None,
    /,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    minutes: float | None = None,
    epochs: int | None = None,
    model: str | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    image_root: ImageRoot = None,
    seed: Seed = None,
    device: Device | None = None,
    precision: Precision | None = None,
    nproc: Nproc = None,
    json: Json = False,
) -> int:
    """Learn features from images without labels, and write them as a bundle.

    DATA is a folder of images of any structure, or shards, or a table. Labels
    are ignored; where folders are classes, they only judge the features. Test
    images that DATA defines are left out. The method is LeJEPA: views of an
    image get the same features, and all features are spread evenly. If they
    collapse, this is said.

    megavit train DATA --from RUN trains a classifier from the features, and
    megavit embed RUN returns them. A run that was stopped continues with
    --resume. Several processes can train one model: --nproc starts them on
    this machine, torchrun ... -m megavit pretrain on several machines.

    For example: megavit pretrain photos --minutes 20 --out runs/features

    Args:
        data: Images: a folder of any structure, shards, or a table.
        out: New folder for the run. Default: runs/NAME-OF-DATA.
        resume: Resume the run in this folder; add DATA if the images have been moved.
        from_: Weights to start from: scratch, a name of megavit backbones, a bundle, another library's checkpoint,
            timm:NAME, or hf-hub:USER/NAME. Default: scratch.
        minutes: Time budget in minutes for the whole command. Default: 10.
        epochs: Number of epochs, instead of --minutes.
        model: Model preset, such as hybrid-nano, Ti or S. Default: chosen by images and device.
        image_size: Image size in pixels. Default: chosen by the images.
        batch_size: Images per optimizer step, over all processes. Default: 64 or 128, fewer for few images.
        learning_rate: Peak learning rate. Default: the recipe's.
        precision: Numeric precision. Default: the faster one, measured.
    """
    changes: dict[str, dict[str, Any]] = {
        "model": {"pretrained": from_, "preset": model, "image_size": image_size},
        "optimizer": {"learning_rate": learning_rate},
        "run": {
            "minutes": minutes,
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
            "device": device,
            "precision": precision,
        },
    }
    settings = {table: {key: value for key, value in keys.items() if value is not None}
                for table, keys in changes.items()}  # fmt: skip
    if resume is not None and (out is not None or any(settings.values())):
        raise ConfigError("--resume continues the run with its own settings: leave out all others")
    if resume is None and data is None:
        raise ConfigError("DATA is missing: megavit pretrain FOLDER, or megavit pretrain --resume RUN")
    parallel = {} if nproc is None else {"parallel": {"nproc": nproc}}
    processes = read_settings("photos", settings | parallel).nproc
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        from megavit.cli.launcher import launch

        # All processes need the same folder.
        folder = ["--out", str(default_out(str(data)))] if out is None and resume is None else []
        return launch(processes, [*sys.argv[1:], *folder], resume_command="megavit pretrain --resume")

    from megavit.api import pretrain as api
    from megavit.cli.console import print_json
    from megavit.cli.launcher import get_start_time, report_once
    from megavit.cli.render.pretraining import show_pretrained
    from megavit.runtime.process_group import get_dist_context
    from megavit.training.clock import Clock

    clock = Clock(get_start_time())
    source = None if data is None else name_columns(data, path_column, label_column, image_root)
    with report_once():
        if resume is not None:
            done = api.resume_pretraining(resume, source, settings=parallel, reporter="terminal", clock=clock)
        else:
            done = api.pretrain(source, out=out, settings=settings | parallel, reporter="terminal", clock=clock)
    if get_dist_context().is_main_process:
        if json:
            print_json(done.to_dict())
        else:
            show_pretrained(done)
    return 0
