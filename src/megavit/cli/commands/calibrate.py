"""The command `megavit calibrate`."""

from pathlib import Path

from megavit.cli.options import Bundle, Device, ImageRoot, Json, LabelColumn, LabeledData, PathColumn, name_columns


def calibrate(
    bundle: Bundle,
    data: LabeledData,
    /,
    *,
    out: Path,
    temperature_only: bool = False,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    image_root: ImageRoot = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Calibrate a bundle's probabilities, prediction sets and out-of-distribution threshold.

    megavit train calibrates by itself: this is for bundles that were converted,
    or whose images have changed since. Of the images of DATA that the model
    was not trained on, some are used to fit and the others to measure.

    Args:
        out: New folder for the calibrated bundle.
        temperature_only: Fit the softmax temperature only, which models of Hugging Face and timm can express.
    """
    from megavit.api import calibrate as api
    from megavit.cli.console import print_json, results
    from megavit.cli.render.metrics import show_uncertainty

    result = api.calibrate(
        bundle,
        name_columns(data, path_column, label_column, image_root),
        out=out,
        temperature_only=temperature_only,
        device=device,
        reporter="terminal",
    )
    if json:
        print_json(result.uncertainty.to_dict() | {"temperature": result.calibration.temperature, "out": str(out)})
        return
    show_uncertainty(result.uncertainty)
    results.print(f"bundle: {out}")
