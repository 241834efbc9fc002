"""Train from Python, continue a run that was stopped, and extend one that is finished."""

import os
from pathlib import Path
from typing import Any

from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.api.settings import Settings, check_resumed_settings, default_out, merge_arguments, read_settings
from megavit.config.recipe import FinetuneMethod
from megavit.data.load import DataSource, is_named, name_source
from megavit.errors import ConfigError, Interrupted
from megavit.training import run as training
from megavit.training.clock import Clock
from megavit.training.extend import Extension
from megavit.training.folds.plan import is_cross_validation
from megavit.training.folds.run import resume_folds, train_folds
from megavit.training.report.result import Run


def train(
    data: DataSource,
    *,
    out: str | os.PathLike[str] | None = None,
    recipe: str | os.PathLike[str] = "auto",
    from_: str | os.PathLike[str] | None = None,
    finetune: FinetuneMethod | None = None,
    teacher: str | os.PathLike[str] | None = None,
    unlabeled: str | os.PathLike[str] | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    model: str | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    folds: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Settings | None = None,
    reporter: ReporterChoice = "auto",
    report: bool = True,
    clock: Clock | None = None,
) -> Run:
    """Train a Vision Transformer on labeled images, write it as a bundle, and return the run with its results.

    As in `megavit train`, whose options have the same names: photographs start from a pretrained backbone if one is at
    hand or can be fetched, and the result is measured on test images and calibrated. Several processes train one model
    when torchrun starts this script with them.

    Args:
        data: folder with one subfolder per class, a table of paths and labels (or numbers), shards, demo:digits; or
            Python objects: (images, labels) with an array (N, height, width[, channels]) or a list of images or paths,
            a `torch.utils.data.Dataset` of such pairs, a data frame of pandas or polars, a `datasets.Dataset`, or a
            dict of these by split.
        out: new folder for the run; None for runs/NAME-OF-DATA.
        recipe: "small", "photos", "demo", a TOML file, or "auto" to choose by the images.
        from_: weights to start from: "auto", "scratch", the name of a backbone, a bundle or `Run`, another library's
            checkpoint, timm:NAME or hf-hub:USER/NAME; None for "auto" for photographs, else "scratch".
        finetune: with pretrained weights, which of them to train: "probe", "last", "lora", "all", or "auto" for the
            best on held-out images.
        teacher: larger model whose features, and logits if it is a bundle with the same classes, the trained one
            imitates beside the labels: a source as for `from_`, of which this run then starts from "scratch".
        unlabeled: images without labels, a folder of any structure, shards or a table: with pretrained weights, those
            whose predicted class is likely are trained on too, if that is better in cross-validation.
        minutes: time budget in minutes; None for 10.
        epochs: number of epochs, instead of `minutes`.
        model: name of a preset; None to choose by images and time budget.
        image_size: side of the model's input in pixels; None to choose by the images.
        batch_size: images per optimizer step; None for 128, fewer for few images.
        learning_rate: peak learning rate; None for the recipe's.
        folds: number of folds of a cross-validation, which trains as many models, one after another, each tested on
            the images of its fold; `minutes` are for all of them, `epochs` for each. None to train one model.
        seed: random seed; None for 0.
        device: "auto", "cpu", "cuda" or "cuda:N"; None for "auto".
        settings: any other settings, nested as in a recipe file, such as {"augment": {"flip": True}}.
        reporter: where progress is shown: "terminal", "notebook", an object with the methods of
            `megavit.training.progress.Reporter`, None for silence, or "auto", which is silent in a script.
        report: whether to write the report, report.html.
        clock: clock that the time budget counts from; None to start now.

    Raises:
        BundleError, ConfigError, DataError, OutputError: if the inputs are invalid, before training starts.
        Interrupted: if a signal, such as Ctrl-C, asked to stop; `resume` continues the run.
        TrainingError: if training diverges and cannot recover.
    """
    arguments: dict[str, dict[str, Any]] = {
        "model": {"pretrained": None if from_ is None else os.fspath(from_), "preset": model, "image_size": image_size},
        "finetune": {"method": finetune},
        "distillation": {"teacher": None if teacher is None else os.fspath(teacher)},
        "pseudo_labels": {"unlabeled": None if unlabeled is None else os.fspath(unlabeled)},
        "data": {"folds": folds},
        "optimizer": {"learning_rate": learning_rate},
        "run": {"minutes": minutes, "epochs": epochs, "batch_size": batch_size, "seed": seed, "device": device},
    }
    chosen = read_settings(recipe, merge_arguments(arguments, settings))
    if out is None and "WORLD_SIZE" in os.environ:
        raise ConfigError("all processes need the same folder for the run: pass it with --out")
    folder = default_out(name_source(data)) if out is None else Path(out)
    with open_reporter(reporter) as shown:
        try:
            begin = train_folds if chosen.is_cross_validation else training.train
            return begin(
                data,
                folder,
                recipe=chosen.recipe,
                overrides=chosen.overrides,
                reporter=shown,
                clock=clock,
                report=report,
            )
        except Interrupted as error:
            error.add_note(f"from Python: megavit.resume({str(folder)!r}{'' if is_named(data) else ', data'})")
            raise


def resume(
    run: str | os.PathLike[str],
    data: DataSource | None = None,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
    settings: Settings | None = None,
    reporter: ReporterChoice = "auto",
    clock: Clock | None = None,
) -> Run:
    """Continue a run that was stopped, from its newest intact checkpoint, and return it with its results.

    With `epochs` or `minutes`, a finished run is extended by as many more: the learning rate rises once more and decays
    again, and the new bundle replaces the old one at the end.

    Args:
        run: folder of the run.
        data: new location of the images, if they have been moved; the same Python objects, if the run had such.
        epochs: epochs by which to extend the finished run.
        minutes: minutes by which to extend the finished run, for this whole call.
        settings: settings that may differ from those that the run began with, the table "parallel".
        reporter: as in `train`.
        clock: clock that the rest of a time budget counts from; None to start now.

    Raises:
        BundleError: if there is no run to resume.
        DataError: if the images have changed.
        ConfigError, Interrupted, OutputError, TrainingError: as in `train`.
    """
    overrides = merge_arguments({}, settings)
    check_resumed_settings(overrides)
    extension = None
    if is_cross_validation(Path(run)):
        return _resume_folds(Path(run), data, settings=overrides, reporter=reporter, extended=bool(epochs or minutes))
    if epochs is not None or minutes is not None:
        extension = Extension(epochs=epochs, minutes=minutes)
    with open_reporter(reporter) as shown:
        return training.resume(
            Path(run),
            reporter=shown,
            clock=clock,
            parallel=overrides.get("parallel"),
            source=data,
            extension=extension,
        )


def _resume_folds(
    run: Path, data: DataSource | None, *, settings: Settings, reporter: ReporterChoice, extended: bool
) -> Run:
    if extended or settings.get("parallel"):
        raise ConfigError(
            f"{run} is a cross-validation, which is resumed with its own settings and length: leave the others out. "
            f"Its folds, such as {run / 'folds' / '1'}, are runs of their own"
        )
    with open_reporter(reporter) as shown:
        return resume_folds(run, reporter=shown, source=data)
