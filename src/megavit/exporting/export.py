"""Export a bundle to another runtime, and verify its outputs against PyTorch on real images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from megavit.config.checks import check_choice
from megavit.config.export_info import IMAGES, PIXELS, ExportPrecision, InputKind
from megavit.data.scan import Progress
from megavit.errors import ConfigError, OutputError
from megavit.exporting.docs.example_script import render_example_script
from megavit.exporting.docs.readme import describe_parity, render_readme
from megavit.exporting.metadata import as_json, export_info
from megavit.exporting.module import check_size, output_names
from megavit.exporting.parity import BATCH_SIZES, ParityResult, check_parity, compare
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


class ExportTarget(NamedTuple):
    """A runtime to export to, with functions that write and open a model, and batch sizes for verification."""

    precisions: tuple[ExportPrecision, ...]
    write: Callable[[ExportJob], None]
    open: Callable[[Path, Predictor], Run]
    batch_sizes: tuple[int, ...] = BATCH_SIZES


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
    check_export_options(target, input, precision, out, runtime)
    export_target = TARGETS[target]
    if precision == "int8" and not any(image.label is not None for image in images):
        raise ConfigError("int8 is verified by its accuracy, which needs labeled images: pass them with --data")
    check_size(predictor)
    info = replace(export_info(predictor, input, precision), recorded=input == PIXELS and target != "web")
    outputs = output_names(predictor)
    with writing("the exported model", out), new_folder(out) as new:
        export_target.write(ExportJob(predictor, new, input, precision, as_json(info), images, runtime))
        run, sizes = export_target.open(new, predictor), export_target.batch_sizes
        result = compare(predictor, run, info, images, batch_sizes=sizes, progress=progress)
        check_parity(result, precision, max_accuracy_drop, target)
        if info.recorded:
            pixels = [to_input_channels(image.pixels, info) for image in images[:REFERENCE_IMAGES]]
            write_record(new, reference_inputs(pixels, info.height, info.width), run)
        script = None if target == "web" else render_example_script(target, info, outputs)
        if script is not None:
            write_file(new / "predict.py", script)
        parity = describe_parity(result, info, source)
        write_file(new / "README.md", render_readme(target, info, outputs, parity, has_script=script is not None))
    return result


def check_export_options(
    target: str, input: InputKind, precision: ExportPrecision, out: Path, runtime: Path | None
) -> None:
    """Raise a ConfigError or an OutputError for options that are invalid for every bundle."""
    check_choice("to", target, tuple(TARGETS))
    precisions = TARGETS[target].precisions
    if precision not in precisions:
        raise ConfigError(f"{target} can be exported in {', '.join(precisions)}, not in {precision}")
    if target == "web" and input != PIXELS:
        raise ConfigError("--to web supports only --input pixels: leave out --input")
    if target == "executorch":
        from megavit.exporting.targets.executorch import check_installed

        check_installed()
        if input != IMAGES:
            raise ConfigError("executorch supports only preprocessed images: add --input images")
    if runtime is not None and target != "web":
        raise ConfigError(f"--onnxruntime-web is only for --to web, not for {target}")
    if out.exists():
        raise OutputError(f"{out} already exists: choose a new folder")


def model_size(folder: Path) -> int:
    """Return the size in bytes of the exported model in a folder, without the other files."""
    return sum(path.stat().st_size for path in folder.rglob("model.*") if path.suffix != ".json")


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

    write_executorch(job.predictor, job.folder, job.metadata)


def _open_in_folder(folder: Path, _: Predictor) -> Run:
    return open_exported(folder)[0]


def _open_executorch(folder: Path, predictor: Predictor) -> Run:
    from megavit.exporting.targets.executorch import open_executorch

    return open_executorch(folder, predictor)


TARGETS: dict[str, ExportTarget] = {
    "onnx": ExportTarget(("float32", "float16", "int8"), _write_onnx, _open_in_folder),
    "openvino": ExportTarget(("float32", "float16", "int8"), _write_openvino, _open_in_folder),
    "web": ExportTarget(
        ("float32", "float16", "int8"), _write_web, lambda folder, p: _open_in_folder(folder / "page", p)
    ),
    "torch": ExportTarget(("float32", "bfloat16"), _write_torch, lambda folder, p: open_torch(folder / "model.pt2", p)),
    "aotinductor": ExportTarget(
        ("float32", "bfloat16"), _write_aotinductor, lambda folder, p: open_aotinductor(folder / "model.pt2", p)
    ),
    "executorch": ExportTarget(("float32",), _write_executorch, _open_executorch, batch_sizes=(1,)),
}
