"""A bundle for another runtime: written, run there on real images, and kept only if it answers as PyTorch does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from megavit.config.checks import check_choice
from megavit.config.export_info import IMAGES, PIXELS, ExportPrecision, InputKind
from megavit.data.scan import Progress
from megavit.errors import ConfigError, OutputError
from megavit.export.docs.example_script import render_example_script
from megavit.export.docs.readme import render_readme
from megavit.export.metadata import as_json, export_info
from megavit.export.module import check_size, output_names
from megavit.export.parity import BATCHES, ParityResult, check, compare
from megavit.export.parity_images import ParityImage, to_calibrate
from megavit.export.targets.onnx import write_onnx
from megavit.export.targets.torch_export import open_aotinductor, open_torch, write_aotinductor, write_torch
from megavit.predict.export_record import reference_inputs, write_record
from megavit.predict.exported_predictor import open_exported, to_input_channels
from megavit.predict.predictor import Predictor
from megavit.runtime.storage import new_folder, write_file, writing

REFERENCES = 2
"""Images whose outputs are kept beside the model."""

Run = Callable[[np.ndarray], dict[str, np.ndarray]]


class Job(NamedTuple):
    """What a target needs to write a model.

    Attributes:
        folder: that it goes to, which is there.
        metadata: JSON that it carries inside.
        proofs: images that the bounds of 8-bit integers may be measured on.
        runtime: for "web", the folder of npm's onnxruntime-web; None: npm fetches it.
    """

    predictor: Predictor
    folder: Path
    input: InputKind
    precision: ExportPrecision
    metadata: str
    proofs: list[ParityImage]
    runtime: Path | None


class Target(NamedTuple):
    """A runtime to export to.

    Attributes:
        precisions: that it has, the usual one first.
        write: puts the model into the folder.
        open: what runs the model in the folder, in that runtime.
        batches: sizes that are tried in turn.
    """

    precisions: tuple[ExportPrecision, ...]
    write: Callable[[Job], None]
    open: Callable[[Path, Predictor], Run]
    batches: tuple[int, ...] = BATCHES


def export(
    predictor: Predictor,
    target: str,
    out: Path,
    proofs: list[ParityImage],
    *,
    input: InputKind = PIXELS,
    precision: ExportPrecision = "float32",
    most: float = 0.5,
    source: str = "",
    runtime: Path | None = None,
    progress: Progress | None = None,
) -> ParityResult:
    """Write a new folder `out` with the model for `target`, a script that uses it, and a README.

    Args:
        proofs: real images to compare the answers on; with classes, for "int8".
        most: points of accuracy that "int8" may cost.
        source: of the proofs, in words.
        runtime: for "web", the folder of npm's onnxruntime-web; None: npm fetches it.

    Raises:
        ConfigError: for what the target does not do, before anything is written.
        ExportError: where the runtime's answers are not PyTorch's; nothing is written then.
        OutputError: when `out` is there already, or cannot be written.
    """
    check_export_options(target, input, precision, out, runtime)
    kind = TARGETS[target]
    if precision == "int8" and not any(proof.label is not None for proof in proofs):
        raise ConfigError(
            "int8 is judged by the accuracy that it costs, and there are no images whose class is known: "
            "give labeled images with --data"
        )
    check_size(predictor)
    info = replace(export_info(predictor, input, precision), recorded=input == PIXELS and target != "web")
    with writing("the exported model", out), new_folder(out) as new:
        kind.write(Job(predictor, new, input, precision, as_json(info), proofs, runtime))
        agreement = compare(predictor, kind.open(new, predictor), info, proofs, kind.batches, progress)
        check(agreement, precision, most, target)
        if info.recorded:
            pixels = [to_input_channels(proof.pixels, info) for proof in proofs[:REFERENCES]]
            inputs = reference_inputs(pixels, info.height, info.width)
            write_record(new, inputs, kind.open(new, predictor))
        script = None if target == "web" else render_example_script(target, info, output_names(predictor))
        if script is not None:
            write_file(new / "predict.py", script)
        write_file(
            new / "README.md",
            render_readme(target, info, output_names(predictor), agreement, source, script is not None),
        )
    return agreement


def check_export_options(
    target: str, input: InputKind, precision: ExportPrecision, out: Path, runtime: Path | None
) -> None:
    """Raise a ConfigError or an OutputError for what cannot be done, whatever the bundle is."""
    check_choice("to", target, tuple(TARGETS))
    precisions = TARGETS[target].precisions
    if precision not in precisions:
        raise ConfigError(f"{target} is exported in {', '.join(precisions)}, not in {precision}")
    if target == "web" and input != PIXELS:
        raise ConfigError("the page of --to web gives the model pixels; leave out --input")
    if target == "executorch":
        from megavit.export.targets.executorch import check_installed

        check_installed()
        if input != IMAGES:
            raise ConfigError("executorch runs models whose images were prepared before: add --input images")
    if runtime is not None and target != "web":
        raise ConfigError(f"--onnxruntime-web is of --to web alone, not of {target}")
    if out.exists():
        raise OutputError(f"there is {out} already; choose a new folder")


def _executorch(job: Job) -> None:
    from megavit.export.targets.executorch import write_executorch

    write_executorch(job.predictor, job.folder, job.metadata)


def _open_executorch(folder: Path, predictor: Predictor) -> Run:
    from megavit.export.targets.executorch import open_executorch

    return open_executorch(folder, predictor)


def model_size(folder: Path) -> int:
    """Bytes of the exported model in a folder, without what is beside it."""
    return sum(path.stat().st_size for path in folder.rglob("model.*") if path.suffix != ".json")


def _onnx(job: Job) -> None:
    write_onnx(job.predictor, job.folder / "model.onnx", job.input, job.precision, job.metadata)


def _openvino(job: Job) -> None:
    from megavit.export.targets.openvino import write_openvino

    bounds = None
    if job.precision == "int8":
        from megavit.engine.int8 import calibrate

        predictor = job.predictor
        bounds = predictor.info.int8.get("bounds") or calibrate(
            predictor.model, predictor.info.preprocessing, to_calibrate(predictor, job.proofs)
        )
    write_openvino(job.predictor, job.folder / "model.xml", job.input, job.precision, job.metadata, bounds)


def _web(job: Job) -> None:
    from megavit.export.targets.web import write_web

    write_web(job.predictor, job.folder, job.precision, job.metadata, job.runtime)


def _torch(job: Job) -> None:
    write_torch(job.predictor, job.folder / "model.pt2", job.input, job.precision, job.metadata)


def _aotinductor(job: Job) -> None:
    write_aotinductor(job.predictor, job.folder / "model.pt2", job.input, job.precision, job.metadata)


TARGETS: dict[str, Target] = {
    "onnx": Target(("float32", "float16", "int8"), _onnx, lambda folder, _: open_exported(folder)[0]),
    "openvino": Target(("float32", "float16", "int8"), _openvino, lambda folder, _: open_exported(folder)[0]),
    "web": Target(("float32", "float16", "int8"), _web, lambda folder, _: open_exported(folder / "page")[0]),
    "torch": Target(("float32", "bfloat16"), _torch, lambda folder, p: open_torch(folder / "model.pt2", p)),
    "aotinductor": Target(
        ("float32", "bfloat16"), _aotinductor, lambda folder, p: open_aotinductor(folder / "model.pt2", p)
    ),
    "executorch": Target(("float32",), _executorch, _open_executorch, batches=(1,)),
}
