"""The formats to export to, as one table; imports neither torch nor a runtime, so that a request is refused at once."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from megavit.config.checks import check_choice
from megavit.config.export_info import IMAGES, PIXELS, ExportPrecision, InputKind
from megavit.errors import ConfigError, OutputError

TargetName = Literal["onnx", "openvino", "web", "torch", "aotinductor", "executorch", "litert", "coreml", "tensorrt"]


EXECUTORCH_MAX_SIDE = 4096  # it reserves memory for the largest image, of which smaller ones use a part


@dataclass(frozen=True, kw_only=True)
class ExportTarget:
    """A format to export to.

    Attributes:
        files: description of the files and of what runs them.
        needs: packages that write it, by import name, each with what is to be installed.
        precisions, inputs: what it can be exported with.
        batch_sizes: numbers of images in a batch that its outputs are verified with.
        max_side: largest height and width of images as pixels; None if there is no limit.
        has_record: whether its folder has checksums and reference outputs beside the model, if it takes pixels.
        unverified: why its outputs are not those of its own runtime when they are verified, with what to do; "" if
            they are.
        runs_on: names of the systems, as `sys.platform`, that have its runtime; empty for all.
    """

    files: str
    needs: tuple[tuple[str, str], ...] = ()
    precisions: tuple[ExportPrecision, ...]
    inputs: tuple[InputKind, ...] = (PIXELS, IMAGES)
    batch_sizes: tuple[int, ...] = (1, 2, 5, 16)
    max_side: int | None = None
    has_record: bool = True
    unverified: str = ""
    runs_on: tuple[str, ...] = ()

    @property
    def is_verified(self) -> bool:
        """Whether the exported model can be run in its own runtime on this machine."""
        return not self.unverified or sys.platform in self.runs_on


_SMALLER: tuple[ExportPrecision, ...] = ("float32", "float16", "int8")

EXPORT_TARGETS: dict[TargetName, ExportTarget] = {
    "onnx": ExportTarget(files="`model.onnx`, for ONNX Runtime and other runtimes that read ONNX", precisions=_SMALLER),
    "openvino": ExportTarget(files="`model.xml` and `model.bin`, for OpenVINO", precisions=_SMALLER),
    "web": ExportTarget(
        files="`index.html`, a page that predicts in the browser: put the folder on any web server; no image is sent",
        precisions=_SMALLER,
        inputs=(PIXELS,),
        has_record=False,
    ),
    "torch": ExportTarget(
        files="`model.pt2`, for `torch.export.load`: needs PyTorch only, not megavit",
        precisions=("float32", "bfloat16"),
    ),
    "aotinductor": ExportTarget(
        files="`model.pt2`, compiled for CPUs like the one that it was exported on, for "
        "`torch._inductor.aoti_load_package`, from Python or C++",
        precisions=("float32", "bfloat16"),
    ),
    "executorch": ExportTarget(
        files="`model.pte`, for ExecuTorch, one image at a time",
        needs=(("executorch", "megavit[executorch]"),),
        precisions=("float32", "int8"),
        batch_sizes=(1,),
        max_side=EXECUTORCH_MAX_SIDE,
        has_record=False,
    ),
    "litert": ExportTarget(
        files="`model.tflite`, for LiteRT, formerly TensorFlow Lite, one image at a time",
        needs=(("litert_torch", "megavit[litert]"),),
        precisions=_SMALLER,
        inputs=(IMAGES,),
        batch_sizes=(1,),
    ),
    "coreml": ExportTarget(
        files="`model.mlpackage`, an ML program for Core ML from iOS 16 and macOS 13, one image at a time",
        needs=(("coremltools", "megavit[coreml]"),),
        precisions=("float32", "float16"),
        inputs=(IMAGES,),
        batch_sizes=(1,),
        unverified="Core ML runs on macOS only, so what was compared is the PyTorch module that it is converted from; "
        "export it on a Mac, which compares the outputs of Core ML, before you rely on it",
        runs_on=("darwin",),
    ),
    "tensorrt": ExportTarget(
        files="`model.onnx`, strongly typed, from which TensorRT builds an engine for the GPU that it runs on",
        precisions=("float32", "float16"),
        inputs=(IMAGES,),
        unverified="an engine of TensorRT is built on its GPU, so what was compared is the ONNX file in ONNX Runtime; "
        "compare the engine's outputs with `reference.npz` there",
    ),
}


def check_export_request(
    target: str, input: str, precision: str, out: Path, runtime: Path | None = None
) -> tuple[TargetName, ExportTarget]:
    """Return the name and the row of a target, or raise an error if a request cannot be met whatever the bundle is.

    Raises:
        ConfigError: if the target does not exist, does not support the options, or needs a package that is missing.
        OutputError: if `out` exists.
    """
    check_choice("to", target, get_args(TargetName))
    (name,) = (one for one in EXPORT_TARGETS if one == target)
    row = EXPORT_TARGETS[name]
    if precision not in row.precisions:
        raise ConfigError(f"{name} can be exported in {', '.join(row.precisions)}, not in {precision}")
    if input not in row.inputs:
        what = (
            "preprocessed images: add --input images"
            if row.inputs == (IMAGES,)
            else "--input pixels: leave out --input"
        )
        raise ConfigError(f"{name} supports only {what}")
    for package, requirement in row.needs:
        if find_spec(package) is None:
            raise ConfigError(f"{package} is not installed: pip install '{requirement}'")
    if runtime is not None and name != "web":
        raise ConfigError(f"--onnxruntime-web is only for --to web, not for {name}")
    if out.exists():
        raise OutputError(f"{out} already exists: choose a new folder")
    return name, row
