"""`megavit predict`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from megavit.cli.options import BatchSize, Device, ImageInputs, InferencePrecision, Json, KeepAspect, Nproc, Verify
from megavit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from megavit.predict.exported_predictor import ExportedPredictor
    from megavit.predict.predictor import Predictor


def predict(
    bundle: Annotated[
        Path,
        Parameter(help="Model bundle: a folder written by megavit train, convert or export, or hf-hub:USER/NAME."),
    ],
    images: ImageInputs,
    /,
    *,
    top: Annotated[int, Parameter(help="Number of most probable classes to report per image.")] = 5,
    coverage: Annotated[
        float | None, Parameter(help="Return prediction sets (or intervals) with this coverage, e.g. 0.95.")
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="New .csv or .jsonl file for the predictions; for shards also a folder.")
    ] = None,
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
    """
    from megavit.cli.console import notes
    from megavit.cli.launcher import telling_once
    from megavit.cli.shard_inference import answer_shards, check_images, local_device, shards_among, start_together
    from megavit.cli.writers.predictions import AnswerWriter, check_output
    from megavit.predict.input_sources import iter_images

    check_images(images, "predict")
    shards = shards_among(images, out, (".jsonl", ".csv"), nproc)
    done = start_together(nproc)
    if done is not None:
        return done
    if shards is None:
        check_output(out)

    def answer(named: "Iterable[tuple[str, Any]]", place: Path | None) -> tuple[int, int]:
        total = failed = 0
        with AnswerWriter(
            place, as_json=json, top=top, target=predictor.target, covered=coverage is not None
        ) as writer:
            for one in predictor.stream(named, top=top, coverage=coverage, batch_size=batch_size):
                writer.write(one)
                total += 1
                failed += one.error is not None
        return total, failed

    with telling_once():
        # First, so that a wrong bundle leaves no empty file.
        predictor = _load(bundle, local_device(device), precision, verify=verify, keep_aspect=keep_aspect)
        predictor.check_coverage(coverage)
        top = max(1, min(top, len(predictor.labels)))
        if shards is not None and out is not None:
            made_of = {"top": top, "coverage": coverage, "precision": precision, "keep_aspect": keep_aspect}
            return answer_shards(shards, out, (".jsonl", ".csv"), made_of, _files(predictor), answer)
    total, failed = answer(iter_images(images, sys.stdin.buffer), out)
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images)}")
    if out is not None:
        notes.print(f"{total:,} answers in {out}")
    if failed:
        notes.print(f"{failed:,} of {total:,} images could not be read", style="yellow")
    return 2 if failed else 0


def _files(predictor: "Predictor | ExportedPredictor") -> list[Path]:
    """What the answers depend on: a bundle's record has the digests of all its files."""
    from megavit.predict.exported_predictor import find_exported_model
    from megavit.weights.bundle.bundle import INFO

    exported = find_exported_model(predictor.folder)
    if exported is None:
        return [predictor.folder / INFO]
    beside = exported.with_suffix(".bin")  # of OpenVINO's two files the one with the numbers
    return [path for path in (exported, beside) if path.is_file()]


def _load(
    bundle: Path, device: str, precision: str, *, verify: bool, keep_aspect: bool
) -> "Predictor | ExportedPredictor":
    from megavit.predict.exported_predictor import find_exported_model, load_exported

    if find_exported_model(bundle) is None:
        from megavit.predict.predictor import load

        return load(bundle, device=device, precision=precision, verify=verify, keep_aspect=keep_aspect)
    if device not in ("auto", "cpu") or precision != "float32" or verify or keep_aspect:
        raise ConfigError(
            f"{bundle} holds an exported model, which runs on the processor as it was exported: leave out --device, "
            "--precision, --verify and --keep-aspect, or give the bundle that it was made of"
        )
    return load_exported(bundle)
