"""The command `megavit export`."""

from pathlib import Path
from typing import Literal

from megavit.cli.options import Bundle, Json, MaxAccuracyDrop
from megavit.config.export_info import ExportPrecision, InputKind

Target = Literal["onnx", "openvino", "web", "torch", "aotinductor", "executorch"]


def export(
    bundle: Bundle,
    /,
    *,
    to: Target,
    out: Path,
    precision: ExportPrecision = "float32",
    input: InputKind = "pixels",
    data: str | None = None,
    max_accuracy_drop: MaxAccuracyDrop = 0.5,
    onnxruntime_web: Path | None = None,
    json: Json = False,
) -> int:
    """Export a bundle for another runtime, verified on real images.

    The exported model is run on real images and its outputs are compared with
    PyTorch's. If they differ by more than rounding, nothing is written and
    the exit code is 1. Resizing, normalization, class names, calibration and
    thresholds are part of the export; the predict.py written with it shows how
    to use it without megavit.

    Args:
        to: Format to write; web is a page that runs the model in a browser.
        out: New folder for the exported model.
        precision: Numeric precision: float16 for onnx, openvino and web, bfloat16 for torch and aotinductor.
        input: Model input: raw pixels of any size, or images that are already preprocessed.
        data: Labeled images for the parity check. Default: the bundle's own test images.
        onnxruntime_web: Folder of the npm package onnxruntime-web, for --to web. Default: npm fetches it.
    """
    from megavit.cli.console import counting, print_json, results
    from megavit.exporting.docs.readme import describe_parity
    from megavit.exporting.export import check_export_options, export, model_size
    from megavit.exporting.metadata import export_info
    from megavit.exporting.parity_images import load_parity_images
    from megavit.predict.predictor import load

    check_export_options(to, input, precision, out, onnxruntime_web)
    predictor = load(bundle, device="cpu")
    with counting("reading images") as progress:
        images, source = load_parity_images(predictor, data, progress)
    with counting("comparing outputs") as progress:
        result = export(
            predictor,
            to,
            out,
            images,
            input=input,
            precision=precision,
            max_accuracy_drop=max_accuracy_drop,
            source=source,
            runtime=onnxruntime_web,
            progress=progress,
        )
    size = model_size(out)
    if json:
        print_json(result.to_dict() | {"out": str(out), "to": to, "precision": precision, "bytes": size})
        return 0
    results.print(describe_parity(result, export_info(predictor, input, precision), source))
    results.print(f"{out}: {size / 1e6:.1f} MB; its README.md explains how to use it")
    return 0
