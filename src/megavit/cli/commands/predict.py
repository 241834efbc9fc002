"""`megavit predict`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from megavit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from megavit.predict.exported_predictor import ExportedPredictor
    from megavit.predict.predictor import Predictor


def predict(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train, convert or export wrote, or hf-hub:USER/NAME.")],
    images: Annotated[
        list[str],
        Parameter(help="Files, folders, patterns, shards, or - for standard input.", allow_leading_hyphen=True),
    ],
    /,
    *,
    top: Annotated[int, Parameter(help="How many classes or labels to tell of each image.")] = 5,
    coverage: Annotated[
        float | None,
        Parameter(help="Such as 0.95: tell the classes, or the range, that hold the truth so often."),
    ] = None,
    output: Annotated[
        Path | None, Parameter(help="New .csv or .jsonl file for the answers; of shards also a folder.")
    ] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, Parameter(help="float32, bfloat16 (faster, 3 digits), or int8 after quantize.")
    ] = "float32",
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 32,
    keep_aspect: Annotated[
        bool, Parameter(help="Keep images' aspect, also where training did not.", negative="")
    ] = False,
    verify: Annotated[bool, Parameter(help="First check the bundle's reference outputs.", negative="")] = False,
    procs: Annotated[int | None, Parameter(help="Processes of this machine to share shards. Default: 1.")] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object a line.", negative="")] = False,
) -> int:
    """Say what is in images, one answer a line, as they come.

    Standard input is one image, or a path a line. An image that cannot be
    read gets its own answer with the reason, the others go on, and the exit
    code is 2. An image unlike those of training is marked: its answer means
    little.

    The answers for shards go into a folder, a file for each, or into one
    file. Several processes share them: --procs starts them on this machine,
    and torchrun ... -m megavit predict on many. What was stopped goes on
    where it was when the same command is given again.
    """
    from megavit.cli.console import notes
    from megavit.cli.launcher import telling_once
    from megavit.cli.shard_inference import answer_shards, check_images, local_device, shards_among, start_together
    from megavit.cli.writers.predictions import AnswerWriter, check_output
    from megavit.config.checks import check_range, check_whole
    from megavit.predict.input_sources import iter_images

    check_whole("top", top, minimum=1)
    check_range("batch-size", batch_size, 1, 100_000)
    check_images(images, "predict")
    shards = shards_among(images, output, (".jsonl", ".csv"), procs)
    done = start_together(procs)
    if done is not None:
        return done
    if shards is None:
        check_output(output)

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
        if shards is not None and output is not None:
            made_of = {"top": top, "coverage": coverage, "precision": precision, "keep_aspect": keep_aspect}
            return answer_shards(shards, output, (".jsonl", ".csv"), made_of, _files(predictor), answer)
    total, failed = answer(iter_images(images, sys.stdin.buffer), output)
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images)}")
    if output is not None:
        notes.print(f"{total:,} answers in {output}")
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
