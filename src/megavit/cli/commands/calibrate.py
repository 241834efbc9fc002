"""`megavit calibrate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def calibrate(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train or convert wrote, or hf-hub:USER/NAME.")],
    data: Annotated[
        str, Parameter(help="Folder of class folders, table of path and label(s) or score, shards, or demo:digits.")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="New folder, for the bundle that is calibrated.")],
    temperature_only: Annotated[
        bool, Parameter(help="Fit nothing that Hugging Face's and timm's models cannot have.", negative="")
    ] = False,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> None:
    """Make a bundle's probabilities, sets and marks right for images of your own.

    megavit train does this by itself; it is for a bundle that was converted, or
    one whose images have changed. Of DATA, images that the model has not
    learned from are fitted on, and others of them measured.
    """
    from megavit.cli.console import counting, print_json, results
    from megavit.cli.render.metrics import show_trust
    from megavit.config.recipe import DataRecipe
    from megavit.data.dataset import read_samples
    from megavit.data.load import read_data
    from megavit.errors import OutputError
    from megavit.evaluate.inference import select_split
    from megavit.evaluate.uncertainty.uncertainty import apply_calibration
    from megavit.evaluate.uncertainty.uncertainty import calibrate as fit
    from megavit.predict.predictor import load
    from megavit.weights.bundle.bundle import SAMPLES, copy_bundle

    if out.exists():
        raise OutputError(f"there is {out} already; choose a new folder")
    predictor = load(bundle, device=device)
    with counting("checking images") as progress:
        images = read_data(data, DataRecipe(val=0, test=0), progress, known=predictor.labels)
    choice = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
    with counting("measuring") as progress:
        found = fit(predictor, images, choice, progress, temperature_only=temperature_only)
    copy_bundle(predictor.folder, out, apply_calibration(predictor.info, found), found.tensors)
    if json:
        print_json(found.metrics.to_dict() | {"temperature": found.trust.temperature, "out": str(out)})
        return
    show_trust(found.metrics)
    results.print(f"bundle: {out}")
