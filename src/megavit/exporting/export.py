"""Export a bundle to another runtime, and verify its outputs against PyTorch on real images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from megavit.config.export_info import PIXELS, ExportInfo, ExportPrecision, InputKind
from megavit.data.scan import Progress
from megavit.errors import ConfigError
from megavit.exporting.docs.example_script import render_example_script
from megavit.exporting.docs.readme import describe_parity, render_readme
from megavit.exporting.formats import ExportTarget, TargetName, check_export_request
from megavit.exporting.metadata import as_json, export_info
from megavit.exporting.module import ExportModule, check_size, output_names, run_eagerly
from megavit.exporting.parity import ParityResult, check_parity, compare, prepared_inputs
from megavit.exporting.parity_images import ParityImage, calibration_batches
from megavit.exporting.targets.onnx import write_onnx
from megavit.exporting.targets.torch_export import open_aotinductor, open_torch, write_aotinductor, write_torch
from megavit.predict.export_record import reference_inputs, write_record
from megavit.predict.exported_predictor import open_exported, to_input_channels
from megavit.predict.predictor import Predictor
from megavit.predict.runtimes import Run
from megavit.runtime.storage import new_folder, write_file, writing

REFERENCE_IMAGES = 2  # stored with their outputs next to the model


class ExportJob(NamedTuple):
    """The model to export, with JSON `metadata` to store in it and `images` for int8 calibration."""

    predictor: Predictor
    folder: Path
    input: InputKind
    precision: ExportPrecision
    metadata: str
    images: list[ParityImage]
    runtime: Path | None


class ExportRuntime(NamedTuple):
    """Functions that write a model, and open it in its runtime, or what it is made from where that is not here."""

    write: Callable[[ExportJob], None]
    open: Callable[[Path, Predictor], Run]


def export(
    predictor: Predictor,
    target: str,
    out: Path,
    images: list[ParityImage],
    *,
    input: InputKind = PIXELS,
    precision: ExportPrecision = "float32",
    max_accuracy_drop: float = 0.5,
    source: str = "",
    runtime: Path | None = None,
    progress: Progress | None = None,
) -> ParityResult:
    """Write a new folder `out` with the model for `target`, a README and, if supported, an example script.

    Args:
        images: real images for verification, labeled for "int8".
        max_accuracy_drop: largest accuracy drop allowed for "int8", in percentage points.
        source: description of the images for the README.
        runtime: for "web", folder of npm's onnxruntime-web; None to fetch it with npm.

    Raises:
        ConfigError: if the target does not support the bundle or the options; raised before anything is written.
        ExportError: if the runtime's outputs differ from PyTorch's; nothing is written.
        OutputError: if `out` exists, or cannot be written.
    """
    name, row = check_export_request(target, input, precision, out, runtime)
    if precision == "int8" and not any(image.label is not None for image in images):
        raise ConfigError("int8 is verified by its accuracy, which needs labeled images: pass them with --data")
    check_size(predictor)
    info = make_info(predictor, row, input, precision)
    outputs = output_names(predictor)
    with writing("the exported model", out), new_folder(out) as new:
        RUNTIMES[name].write(ExportJob(predictor, new, input, precision, as_json(info), images, runtime))
        run = RUNTIMES[name].open(new, predictor)
        result = compare(
            predictor, run, info, images, batch_sizes=row.batch_sizes, max_side=row.max_side, progress=progress
        )
        check_parity(result, precision, max_accuracy_drop, name)
        if info.unverified:
            write_record(
                new,
                prepared_inputs(predictor, images[:REFERENCE_IMAGES]),
                run_eagerly(ExportModule(predictor, input).eval(), outputs),
            )
        elif info.recorded:
            pixels = [to_input_channels(image.pixels, info) for image in images[:REFERENCE_IMAGES]]
            write_record(new, reference_inputs(pixels, info.height, info.width), run)
        script = render_example_script(name, info, outputs)
        if script is not None:
            write_file(new / "predict.py", script)
        parity = describe_parity(result, info, source)
        write_file(new / "README.md", render_readme(name, info, outputs, parity, has_script=script is not None))
    return result


def make_info(predictor: Predictor, row: ExportTarget, input: InputKind, precision: ExportPrecision) -> ExportInfo:
    """Return the metadata of a bundle's export to a target, with what is not verified on this machine."""
    unverified = "" if row.is_verified else row.unverified
    is_recorded = bool(unverified) or (input == PIXELS and row.has_record)
    return replace(export_info(predictor, input, precision), recorded=is_recorded, unverified=unverified)


def model_size(folder: Path) -> int:
    """Return the size in bytes of the exported model in a folder, without the other files."""
    models = [path for path in folder.rglob("model.*") if path.suffix != ".json"]
    files = [file for path in models for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in {*files} if file.is_file())


def _write_onnx(job: ExportJob) -> None:
    write_onnx(job.predictor, job.folder / "model.onnx", job.input, job.precision, job.metadata)


def _write_openvino(job: ExportJob) -> None:
    from megavit.exporting.targets.openvino import write_openvino

    predictor, bounds = job.predictor, None
    if job.precision == "int8":
        from megavit.engine.int8 import calibrate

        bounds = predictor.info.int8.get("bounds") or calibrate(
            predictor.model, predictor.info.preprocessing, calibration_batches(predictor, job.images)
        )
    write_openvino(predictor, job.folder / "model.xml", job.input, job.precision, job.metadata, bounds=bounds)


def _write_web(job: ExportJob) -> None:
    from megavit.exporting.targets.web import write_web

    write_web(job.predictor, job.folder, job.precision, job.metadata, job.runtime)


def _write_torch(job: ExportJob) -> None:
    write_torch(job.predictor, job.folder / "model.pt2", job.input, job.precision, job.metadata)


def _write_aotinductor(job: ExportJob) -> None:
    write_aotinductor(job.predictor, job.folder / "model.pt2", job.input, job.precision, job.metadata)


def _write_executorch(job: ExportJob) -> None:
    from megavit.exporting.targets.executorch import write_executorch

    write_executorch(job.predictor, job.folder, job.input, job.precision, job.metadata)


def _write_litert(job: ExportJob) -> None:
    from megavit.exporting.targets.litert import write_litert

    write_litert(job.predictor, job.folder, job.precision, job.metadata)


def _write_tensorrt(job: ExportJob) -> None:
    from onnx import checker

    path = job.folder / "model.onnx"
    write_onnx(job.predictor, path, job.input, job.precision, job.metadata)
    checker.check_model(path, full_check=True)  # every type, as the engine's builder takes them literally


def _write_coreml(job: ExportJob) -> None:
    from megavit.exporting.targets.coreml import write_coreml

    write_coreml(job.predictor, job.folder / "model.mlpackage", job.precision, job.metadata)


def _open_in_folder(folder: Path, _: Predictor) -> Run:
    return open_exported(folder)[0]


def _open_executorch(folder: Path, predictor: Predictor) -> Run:
    from megavit.exporting.targets.executorch import open_executorch

    return open_executorch(folder, predictor)


def _open_litert(folder: Path, predictor: Predictor) -> Run:
    from megavit.exporting.targets.litert import open_litert

    return open_litert(folder, predictor)


def _open_coreml(folder: Path, predictor: Predictor) -> Run:
    from megavit.exporting.targets.coreml import open_coreml

    return open_coreml(folder / "model.mlpackage", predictor)


RUNTIMES: dict[TargetName, ExportRuntime] = {
    "onnx": ExportRuntime(_write_onnx, _open_in_folder),
    "openvino": ExportRuntime(_write_openvino, _open_in_folder),
    "web": ExportRuntime(_write_web, lambda folder, predictor: _open_in_folder(folder / "page", predictor)),
    "torch": ExportRuntime(_write_torch, lambda folder, predictor: open_torch(folder / "model.pt2", predictor)),
    "aotinductor": ExportRuntime(
        _write_aotinductor, lambda folder, predictor: open_aotinductor(folder / "model.pt2", predictor)
    ),
    "executorch": ExportRuntime(_write_executorch, _open_executorch),
    "litert": ExportRuntime(_write_litert, _open_litert),
    "coreml": ExportRuntime(_write_coreml, _open_coreml),
    "tensorrt": ExportRuntime(_write_tensorrt, _open_in_folder),  # what it is built from, in ONNX Runtime
}
"""How each row of `EXPORT_TARGETS` is written and run."""
