"""`megavit export`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def export(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train or convert wrote, or hf-hub:USER/NAME.")],
    /,
    *,
    to: Annotated[
        str, Parameter(help="onnx, openvino, web (a page that needs no server), torch, aotinductor or executorch.")
    ],
    out: Annotated[Path, Parameter(help="New folder for the model.")],
    precision: Annotated[
        str, Parameter(help="float32; float16 (onnx, openvino, web), bfloat16 (torch, aotinductor) or int8.")
    ] = "float32",
    input: Annotated[
        str, Parameter(help="pixels (any size, prepared by the model itself), or images prepared before.")
    ] = "pixels",
    data: Annotated[
        str | None, Parameter(help="Labeled images to prove it on; by default the bundle's own test images.")
    ] = None,
    most: Annotated[float, Parameter(help="Points of accuracy that int8 may cost at most.")] = 0.5,
    runtime: Annotated[
        Path | None, Parameter(help="For web: folder of npm's onnxruntime-web; by default npm fetches it.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> int:
    """Write a bundle's model for another runtime, if it answers there as it does here.

    The file is run on real images in the runtime it was made for, and its
    answers are compared with PyTorch's. Where they differ by more than
    rounding, nothing is written, and the exit code is 1. Resizing, normalizing,
    labels, calibration and thresholds are inside; predict.py beside it shows
    how to use it without megavit.
    """
    from typing import cast, get_args

    from megavit.cli.console import counting, print_json, results
    from megavit.config.checks import check_choice, check_range
    from megavit.config.export_info import ExportPrecision, InputKind
    from megavit.export.docs.readme import describe_parity
    from megavit.export.export import check_export_options, export, model_size
    from megavit.export.metadata import export_info
    from megavit.export.parity_images import load_parity_images
    from megavit.predict.predictor import load

    check_choice("input", input, get_args(InputKind))
    check_choice("precision", precision, get_args(ExportPrecision))
    check_range("most", most, 0, 100)
    kind, number = cast(InputKind, input), cast(ExportPrecision, precision)
    check_export_options(to, kind, number, out, runtime)
    predictor = load(bundle, device="cpu")
    with counting("reading images") as progress:
        proofs, source = load_parity_images(predictor, data, progress)
    with counting("comparing answers") as progress:
        agreement = export(
            predictor,
            to,
            out,
            proofs,
            input=kind,
            precision=number,
            most=most,
            source=source,
            runtime=runtime,
            progress=progress,
        )
    size = model_size(out)
    if json:
        print_json(agreement.to_dict() | {"out": str(out), "to": to, "precision": precision, "bytes": size})
        return 0
    results.print(describe_parity(agreement, export_info(predictor, kind, number), source))
    results.print(f"{out}: {size / 1e6:.1f} MB; README.md there says how to use it")
    return 0
