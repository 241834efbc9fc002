"""The command `megavit calibrate`."""

from pathlib import Path

from megavit.cli.options import Bundle, Device, Json, LabeledData


def calibrate(
    bundle: Bundle,
    data: LabeledData,
    /,
    *,
    out: Path,
    temperature_only: bool = False,
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
    from megavit.cli.console import counting, print_json, results
    from megavit.cli.render.metrics import show_uncertainty
    from megavit.config.recipe import DataRecipe
    from megavit.data.dataset import read_samples
    from megavit.data.load import load_data
    from megavit.errors import OutputError
    from megavit.evaluation.inference import select_split
    from megavit.evaluation.uncertainty.uncertainty import apply_calibration
    from megavit.evaluation.uncertainty.uncertainty import calibrate as fit
    from megavit.predict.predictor import load
    from megavit.weights.bundle.bundle import SAMPLES, copy_bundle

    if out.exists():
        raise OutputError(f"{out} already exists: choose a new folder with --out")
    predictor = load(bundle, device=device)
    with counting("checking images") as progress:
        images = load_data(data, DataRecipe(val=0, test=0), progress, known_classes=predictor.labels)
    choice = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
    with counting("calibrating") as progress:
        result = fit(predictor, images, choice, progress, temperature_only=temperature_only)
    copy_bundle(predictor.folder, out, apply_calibration(predictor.info, result), result.tensors)
    if json:
        print_json(result.uncertainty.to_dict() | {"temperature": result.calibration.temperature, "out": str(out)})
        return
    show_uncertainty(result.uncertainty)
    results.print(f"bundle: {out}")
