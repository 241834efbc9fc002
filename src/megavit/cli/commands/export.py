"""`megavit export`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from megavit.cli.options import Bundle, Json, MaxAccuracyDrop
from megavit.config.export_info import ExportPrecision, InputKind

Target = Literal["onnx", "openvino", "web", "torch", "aotinductor", "executorch"]


def export(
    bundle: Bundle,
    /,
    *,
    to: Annotated[Target, Parameter(help="Format to write; web is a page that runs the model in a browser.")],
    out: Annotated[Path, Parameter(help="New folder for the exported model.")],
    precision: Annotated[
        ExportPrecision,
        Parameter(help="Numeric precision: float16 for onnx, openvino and web, bfloat16 for torch and aotinductor."),
    ] = "float32",
    input: Annotated[
        InputKind, Parameter(help="Model input: raw pixels of any size, or images that are already preprocessed.")
    ] = "pixels",
    data: Annotated[
        str | None, Parameter(help="Labeled images for the parity check. Default: the bundle's own test images.")
    ] = None,
    max_accuracy_drop: MaxAccuracyDrop = 0.5,
    onnxruntime_web: Annotated[
        Path | None, Parameter(help="Folder of the npm package onnxruntime-web, for --to web. Default: npm fetches it.")
    ] = None,
    json: Json = False,
) -> int:
    """Export a bundle for another runtime, verified on real images.

    The exported model is run on real images and its outputs are compared with
    PyTorch's. If they differ by more than rounding, nothing is written and
    the exit code is 1. Resizing, normalization, class names, calibration and
    thresholds are part of the export; the predict.py written with it shows how
    to use it without megavit.
    """
    from megavit.cli.console import counting, print_json, results
    from megavit.export.docs.readme import describe_parity
    from megavit.export.export import check_export_options, export, model_size
    from megavit.export.metadata import export_info
    from megavit.export.parity_images import load_parity_images
    from megavit.predict.predictor import load

    check_export_options(to, input, precision, out, onnxruntime_web)
    predictor = load(bundle, device="cpu")
    with counting("reading images") as progress:
        proofs, source = load_parity_images(predictor, data, progress)
    with counting("comparing answers") as progress:
        agreement = export(
            predictor,
            to,
            out,
            proofs,
            input=input,
            precision=precision,
            most=max_accuracy_drop,
            source=source,
            runtime=onnxruntime_web,
            progress=progress,
        )
    size = model_size(out)
    if json:
        print_json(agreement.to_dict() | {"out": str(out), "to": to, "precision": precision, "bytes": size})
        return 0
    results.print(describe_parity(agreement, export_info(predictor, input, precision), source))
    results.print(f"{out}: {size / 1e6:.1f} MB; README.md there says how to use it")
    return 0
