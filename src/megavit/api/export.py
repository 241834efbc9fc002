"""Export a bundle to another runtime from Python."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megavit.config.checks import check_range
from megavit.config.export_info import ExportPrecision, InputKind
from megavit.exporting.formats import check_export_request

if TYPE_CHECKING:
    from megavit.api.reporters.choose import ReporterChoice
    from megavit.data.load import DataSource
    from megavit.exporting.parity import ParityResult


@dataclass(frozen=True)
class Export:
    """An exported model that was verified against PyTorch, if its runtime is here.

    Attributes:
        folder: its folder; its README.md explains how to use it.
        to, precision: its format and numeric precision.
        parity: how far its outputs differ from PyTorch's, or if not `is_verified`, those of what it is made from.
        description: sentences on the parity, and on what was not verified.
        is_verified: whether the outputs of its own runtime were compared.
        num_bytes: size of the model, without the other files.
    """

    folder: Path
    to: str
    precision: str
    parity: "ParityResult"
    description: str
    is_verified: bool
    num_bytes: int

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        about = {"out": str(self.folder), "to": self.to, "precision": self.precision, "bytes": self.num_bytes}
        about |= {"verified": self.is_verified, "description": self.description}
        return self.parity.to_dict() | about


def export(
    bundle: str | os.PathLike[str],
    *,
    to: str,
    out: str | os.PathLike[str],
    precision: ExportPrecision = "float32",
    input: InputKind = "pixels",
    data: "DataSource | None" = None,
    max_accuracy_drop: float = 0.5,
    onnxruntime_web: str | os.PathLike[str] | None = None,
    reporter: "ReporterChoice" = "auto",
) -> Export:
    """Export a bundle for another runtime to the new folder `out`, and verify it on real images.

    Resizing, normalization, class names, calibration and thresholds are part of the export.

    Args:
        bundle: bundle or `Run`, as for `megavit.load`.
        to: "onnx", "openvino", "web" (a page that runs the model in a browser), "torch", "aotinductor", "executorch",
            "litert", "coreml" or "tensorrt".
        out: new folder for the exported model.
        precision: "float32", "float16" or "int8" for ONNX, OpenVINO, web and LiteRT; "float32" or "bfloat16" for
            PyTorch's own; "float32" or "float16" for Core ML and TensorRT; "float32" or "int8" for ExecuTorch.
        input: "pixels" of any size, up to 4,096 × 4,096 for ExecuTorch, or "images" that are already preprocessed;
            "litert", "coreml" and "tensorrt" have only these.
        data: labeled images to verify with; None for the bundle's own test images.
        max_accuracy_drop: largest loss of accuracy that int8 may cause, in percentage points.
        onnxruntime_web: folder of the npm package onnxruntime-web, for "web"; None to fetch it with npm.
        reporter: as for `megavit.train`.

    Raises:
        BundleError, ConfigError, DataError: if the bundle cannot be exported so, or the images do not fit it.
        ExportError: if the runtime's outputs differ from PyTorch's; nothing is written.
        OutputError: if `out` exists or cannot be written.
    """
    check_range("max_accuracy_drop", max_accuracy_drop, 0, 100)
    folder, runtime = Path(out), None if onnxruntime_web is None else Path(onnxruntime_web)
    _, row = check_export_request(to, input, precision, folder, runtime)
    from megavit.api.reporters.choose import open_reporter
    from megavit.exporting.docs.readme import describe_parity
    from megavit.exporting.export import export as export_predictor
    from megavit.exporting.export import make_info, model_size
    from megavit.exporting.parity_images import load_parity_images
    from megavit.predict.predictor import load

    predictor = load(bundle, device="cpu")
    with open_reporter(reporter) as shown:
        images, source = load_parity_images(predictor, data, partial(shown.progress, "reading images"))
        parity = export_predictor(
            predictor,
            to,
            folder,
            images,
            input=input,
            precision=precision,
            max_accuracy_drop=max_accuracy_drop,
            source=source,
            runtime=runtime,
            progress=partial(shown.progress, "comparing outputs"),
        )
    description = describe_parity(parity, make_info(predictor, row, input, precision), source)
    return Export(folder, to, precision, parity, description, row.is_verified, model_size(folder))
