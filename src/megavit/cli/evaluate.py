"""`megavit evaluate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def evaluate(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train or convert wrote, or hf-hub:USER/NAME.")],
    data: Annotated[
        str, Parameter(help="Folder of class folders, table of path and label(s) or score, or demo:digits.")
    ],
    /,
    *,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, Parameter(help="float32, bfloat16 (faster, 3 digits), or int8 after quantise.")
    ] = "float32",
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 64,
    keep_aspect: Annotated[
        bool, Parameter(help="Keep images' aspect, also where training did not.", negative="")
    ] = False,
    verify: Annotated[bool, Parameter(help="First check the bundle's golden answers.", negative="")] = False,
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> None:
    """Measure a bundle on labelled images, each figure with its 95% interval.

    Of data with splits the test images are taken. Images that the model was
    trained on, or chosen by, are known by their content and left out, and
    their number is told.
    """
    from megavit.cli.metrics import show_metrics
    from megavit.cli.output import counting, notes, print_json, show_skipped
    from megavit.config.checks import check_range
    from megavit.config.recipe import DataRecipe
    from megavit.data.read import read_data
    from megavit.data.samples import read_samples
    from megavit.evaluate.dataset import choose
    from megavit.evaluate.dataset import evaluate as measure
    from megavit.predict.predictor import load
    from megavit.weights.bundle import SAMPLES

    check_range("batch-size", batch_size, 1, 100_000)
    predictor = load(bundle, device=device, precision=precision, verify=verify, keep_aspect=keep_aspect)
    with counting("checking images") as progress:
        images = read_data(data, DataRecipe(val=0, test=0), progress)
    choice = choose(images, predictor.labels, read_samples(predictor.folder / SAMPLES), predictor.target)
    with counting("evaluating") as progress:
        metrics = measure(predictor, images, choice, batch_size, progress)

    skipped = images.skipped_by_reason()
    if json:
        facts = {"source": images.source, "split": choice.split, "left_out_as_learnt": choice.learnt}
        answer = {"target": predictor.target, "metrics": metrics.to_dict(), "data": {**facts, "skipped": skipped}}
        print_json(answer)
        return
    show_skipped(skipped)
    if choice.learnt:
        notes.print(f"{choice.learnt:,} images left out: the model was trained or chosen by them", style="yellow")
    show_metrics(metrics)
