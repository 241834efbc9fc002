"""The command `megavit predict`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megavit.cli.options import BatchSize, Device, ImageInputs, InferencePrecision, Json, KeepAspect, Nproc, Verify
from megavit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from megavit.predict.engine_cache import EngineCache
    from megavit.predict.exported_predictor import ExportedPredictor
    from megavit.predict.predictor import Predictor


def predict(
    bundle: Path,
    images: ImageInputs,
    /,
    *,
    top: int = 5,
    coverage: float | None = None,
    out: Path | None = None,
    device: Device = "auto",
    precision: InferencePrecision = "float32",
    batch_size: BatchSize = 32,
    keep_aspect: KeepAspect = False,
    verify: Verify = False,
    nproc: Nproc = None,
    json: Json = False,
) -> int:
    """Predict the classes (or numbers) of images, one line per image.

    Standard input is one image, or one path per line. An image that cannot be
    read is reported with the reason and does not stop the others; the exit
    code is then 2. Images unlike the training images are marked: their
    predictions are not reliable.

    Predictions for shards go into a folder, with one file per shard, or into
    a single file. Several processes share the shards: --nproc starts them on
    this machine, and torchrun ... -m megavit predict on several machines. A
    command that was interrupted continues where it stopped when it is run
    again.

    Args:
        bundle: Model bundle: a folder written by megavit train, convert or export, or hf-hub:USER/NAME.
        top: Number of most probable classes to report per image.
        coverage: Return prediction sets (or intervals) with this coverage, e.g. 0.95.
        out: New .csv or .jsonl file for the predictions; for shards also a folder.
    """
    from megavit.predict.engine_cache import are_few, find_engine

    is_usual = device in ("auto", "cpu") and precision == "float32" and not (verify or keep_aspect or nproc)
    engine = find_engine(bundle) if is_usual and are_few(images) else None
    opening = None if engine is None else engine.open(coverage)

    # Imported while the graph is opened.
    from megavit.cli.shard_inference import InferenceCommand, InferenceModel, local_device, write_all
    from megavit.cli.writers.predictions import PredictionWriter

    loaded: list[Predictor | ExportedPredictor] = []

    def load_model() -> InferenceModel:
        predictor = None if opening is None else opening.result()
        if predictor is None:
            predictor = _load(bundle, local_device(device), precision, verify=verify, keep_aspect=keep_aspect)
        predictor.check_coverage(coverage)
        loaded.append(predictor)
        shown = max(1, min(top, len(predictor.labels)))

        def write(named: "Iterable[tuple[str, Any]]", path: Path | None) -> tuple[int, int]:
            return write_all(
                PredictionWriter(path, as_json=json, top=shown, target=predictor.target, coverage=coverage is not None),
                predictor.stream(named, top=shown, coverage=coverage, batch_size=batch_size),
            )

        settings = {"top": shown, "coverage": coverage, "precision": precision, "keep_aspect": keep_aspect}
        return InferenceModel(write, settings, _model_files(predictor), lambda total, _: f"{total:,} predictions")

    code = InferenceCommand(
        name="predict", images=images, out=out, nproc=nproc, suffixes=(".jsonl", ".csv"), what="predictions"
    ).run(load_model)
    if engine is not None:
        _keep_engine(engine, loaded[0])
    return code


def _model_files(predictor: "Predictor | ExportedPredictor") -> list[Path]:
    """Return the files that the predictions depend on: a bundle's record has the digests of its other files."""
    from megavit.predict.exported_predictor import ExportedPredictor, find_exported_model

    exported = find_exported_model(predictor.folder)
    if isinstance(predictor, ExportedPredictor) and exported is None:
        return []  # a kept engine, which answers for no shards
    if exported is None:
        from megavit.weights.bundle.bundle import INFO

        return [predictor.folder / INFO]
    weights = exported.with_suffix(".bin")  # of OpenVINO
    return [path for path in (exported, weights) if path.is_file()]


def _load(
    bundle: Path, device: str, precision: str, *, verify: bool, keep_aspect: bool
) -> "Predictor | ExportedPredictor":
    from megavit.predict.exported_predictor import find_exported_model, load_exported

    if find_exported_model(bundle) is None:
        from megavit.predict.predictor import load

        predictor = load(bundle, device=device, precision=precision, verify=verify, keep_aspect=keep_aspect)
        if predictor.slow_precision is not None:
            from megavit.cli.console import notes

            notes.print(predictor.slow_precision, style="yellow")
        return predictor
    if device not in ("auto", "cpu") or precision != "float32" or verify or keep_aspect:
        raise ConfigError(
            f"{bundle} contains an exported model, which runs on the CPU with the settings of its export: leave out "
            "--device, --precision, --verify and --keep-aspect, or use the bundle it was exported from"
        )
    return load_exported(bundle)


def _keep_engine(engine: "EngineCache", predictor: "Predictor | ExportedPredictor") -> None:
    """Compile what the next command answers with before it imports PyTorch, unless this one is the first."""
    from megavit.predict.exported_predictor import ExportedPredictor

    if isinstance(predictor, ExportedPredictor):
        return
    sys.stdout.flush()
    if engine.note_command():
        from megavit.exporting.kept_engine import keep_engine

        keep_engine(engine, predictor)
