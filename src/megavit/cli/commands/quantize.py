"""`megavit quantize`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def quantize(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train wrote, or hf-hub:USER/NAME.")],
    data: Annotated[str, Parameter(help="Labeled images: a folder of class folders, a table, shards, or demo:digits.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="New folder, for the bundle that may multiply 8-bit integers.")],
    most: Annotated[float, Parameter(help="Points of accuracy that it may lose at most.")] = 0.5,
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> int:
    """Let a bundle multiply 8-bit integers on a processor, if that costs little: predict --precision int8.

    The cost is measured on images of DATA that the model has not learned from,
    against float32, image by image. Where more accuracy is lost than --most
    allows, nothing is written, and the exit code is 1.
    """
    from megavit.cli.console import counting, notes, print_json, results
    from megavit.config.checks import check_range
    from megavit.config.recipe import DataRecipe
    from megavit.data.dataset import read_samples
    from megavit.data.load import read_data
    from megavit.engine.engine import check_precision
    from megavit.errors import OutputError
    from megavit.evaluate.inference import select_split
    from megavit.export.quantization import measure_int8, with_int8
    from megavit.predict.predictor import load
    from megavit.weights.bundle.bundle import SAMPLES, copy_bundle

    check_range("most", most, 0, 100)
    if out.exists():
        raise OutputError(f"there is {out} already; choose a new folder")
    predictor = load(bundle, device="cpu")
    check_precision("int8", next(predictor.model.parameters()).device)
    with counting("checking images") as progress:
        images = read_data(data, DataRecipe(val=0, test=0), progress, known=predictor.labels)
    choice = select_split(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
    with counting("measuring") as progress:
        bounds, cost = measure_int8(predictor, images, choice, progress)
    kept = cost.change.value * 100 >= -most
    if kept:
        copy_bundle(predictor.folder, out, with_int8(predictor.info, bounds, cost))
    if json:
        print_json(cost.to_dict() | {"out": str(out) if kept else None})
        return 0 if kept else 1
    low, high = (f"{end * 100:+.2f}" for end in (cost.change.low, cost.change.high))
    results.print(
        f"accuracy on {cost.images:,} images: {cost.float32:.2%} in float32, {cost.int8:.2%} in int8, a change of "
        f"{cost.change.value * 100:+.2f} points (95%: {low} to {high}); {cost.faster:.1f} times as fast"
    )
    if cost.faster < 1:
        notes.print("int8 is slower than float32 on this processor: quantize for another one, or not", style="yellow")
    if not kept:
        notes.print(f"more than {most:g} points are lost: nothing is written; --most allows more", style="yellow")
        return 1
    results.print(f"{out}: use it with --precision int8")
    return 0
