"""The command `megavit export`."""

from pathlib import Path

from megavit.cli.options import Bundle, ImageRoot, Json, LabelColumn, MaxAccuracyDrop, PathColumn, name_columns
from megavit.config.export_info import ExportPrecision, InputKind
from megavit.exporting.formats import TargetName


def export(
    bundle: Bundle,
    /,
    *,
    to: TargetName,
    out: Path,
    precision: ExportPrecision = "float32",
    input: InputKind = "pixels",
    data: str | None = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    image_root: ImageRoot = None,
    max_accuracy_drop: MaxAccuracyDrop = 0.5,
    onnxruntime_web: Path | None = None,
    json: Json = False,
) -> int:
    """Export a bundle for another runtime, verified on real images.

    The exported model is run on real images and its outputs are compared with
    PyTorch's. If they differ by more than rounding, nothing is written and
    the exit code is 1. Where a format cannot be run here (coreml, tensorrt), the
    output, the README and the file say so. Resizing, normalization, class names,
    calibration and thresholds are part of the export; the predict.py written
    with it shows how to use it without megavit.

    Args:
        to: Format to write; web is a page that runs the model in a browser.
        out: New folder for the exported model.
        precision: Numeric precision: bfloat16 for torch and aotinductor, float16 for most others.
        input: Model input: raw pixels of any size, or images that are already preprocessed.
        data: Labeled images for the parity check. Default: the bundle's own test images.
        onnxruntime_web: Folder of the npm package onnxruntime-web, for --to web. Default: npm fetches it.
    """
    from megavit.api import export as api
    from megavit.cli.console import print_json, results

    exported = api.export(
        bundle,
        to=to,
        out=out,
        precision=precision,
        input=input,
        data=None if data is None else name_columns(data, path_column, label_column, image_root),
        max_accuracy_drop=max_accuracy_drop,
        onnxruntime_web=onnxruntime_web,
        reporter="terminal",
    )
    if json:
        print_json(exported.to_dict())
        return 0
    results.print(exported.description, style=None if exported.is_verified else "yellow")
    results.print(f"{out}: {exported.num_bytes / 1e6:.1f} MB; its README.md explains how to use it")
    return 0
