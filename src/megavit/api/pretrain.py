"""Pretrain from Python on images without labels, and continue a pretraining that was stopped."""

import os
from pathlib import Path
from typing import Any

from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.api.settings import Settings, check_resumed_settings, default_out, merge_arguments, read_settings
from megavit.data.load import DataSource, is_named, name_source
from megavit.errors import ConfigError, Interrupted
from megavit.training.clock import Clock
from megavit.training.pretraining import run as pretraining
from megavit.training.pretraining.finish import PretrainingRun


def pretrain(
    data: DataSource,
    *,
    out: str | os.PathLike[str] | None = None,
    from_: str | os.PathLike[str] | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    model: str | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Settings | None = None,
    reporter: ReporterChoice = "auto",
    clock: Clock | None = None,
) -> PretrainingRun:
    """Learn features from images without their labels, and write them as a bundle for `train(from_=...)` and `embed`.

    As in `megavit pretrain`, whose options have the same names. Embeddings that collapse are reported.

    Args:
        data: folder of images of any structure, shards, a table, or Python objects as for `megavit.train`; images that
            it defines as those to test on are left out.
        out: new folder for the run; None for runs/NAME-OF-DATA.
        from_: weights to start from: the name of a backbone, a bundle, another library's checkpoint, timm:NAME or
            hf-hub:USER/NAME; None or "scratch" for none.
        minutes: time budget in minutes; None for 10.
        epochs: number of epochs, instead of `minutes`.
        model: name of a preset; None to choose by the images.
        image_size: side of the model's input in pixels; None to choose by the images.
        batch_size: images per optimizer step; None for 64 or 128, fewer for few images.
        learning_rate: peak learning rate; None for the default.
        seed: random seed; None for 0.
        device: "auto", "cpu", "cuda" or "cuda:N"; None for "auto".
        settings: any other settings, nested as in a recipe file, such as {"pretraining": {"small_views": 4}}.
        reporter: as for `megavit.train`.
        clock: clock that the time budget counts from; None to start now.

    Raises:
        BundleError, ConfigError, DataError, OutputError: if the inputs are invalid, before training starts.
        Interrupted: if a signal, such as Ctrl-C, asked to stop; `resume_pretraining` continues the run.
        TrainingError: if training diverges and cannot recover.
    """
    arguments: dict[str, dict[str, Any]] = {
        "model": {"pretrained": None if from_ is None else os.fspath(from_), "preset": model, "image_size": image_size},
        "optimizer": {"learning_rate": learning_rate},
        "run": {"minutes": minutes, "epochs": epochs, "batch_size": batch_size, "seed": seed, "device": device},
    }
    chosen = read_settings("photos", merge_arguments(arguments, settings))
    if out is None and "WORLD_SIZE" in os.environ:
        raise ConfigError("all processes need the same folder for the run: pass it with --out")
    folder = default_out(name_source(data)) if out is None else Path(out)
    with open_reporter(reporter) as shown:
        try:
            return pretraining.pretrain(data, folder, overrides=chosen.overrides, reporter=shown, clock=clock)
        except Interrupted as error:
            again = "" if is_named(data) else ", data"
            error.add_note(f"from Python: megavit.resume_pretraining({str(folder)!r}{again})")
            raise


def resume_pretraining(
    run: str | os.PathLike[str],
    data: DataSource | None = None,
    *,
    settings: Settings | None = None,
    reporter: ReporterChoice = "auto",
    clock: Clock | None = None,
) -> PretrainingRun:
    """Continue a pretraining that was stopped, from its newest intact checkpoint, and return it with its results.

    Args:
        run: folder of the run.
        data: new location of the images, if they have been moved; the same Python objects, if the run had such.
        settings: settings that may differ from those that the run began with, the table "parallel".
        reporter: as for `megavit.train`.
        clock: clock that the rest of a time budget counts from; None to start now.

    Raises:
        BundleError: if there is no run to resume.
        DataError: if the images have changed.
        ConfigError, Interrupted, OutputError, TrainingError: as in `pretrain`.
    """
    overrides = merge_arguments({}, settings)
    check_resumed_settings(overrides)
    with open_reporter(reporter) as shown:
        return pretraining.resume_pretraining(
            Path(run), reporter=shown, clock=clock, parallel=overrides.get("parallel"), source=data
        )
