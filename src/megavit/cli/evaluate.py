"""`megavit evaluate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

MOST_CLASSES_SHOWN = 30
CONFUSIONS_SHOWN = 5


def evaluate(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train wrote.")],
    data: Annotated[str, Parameter(help="Folder of class folders, table of path,label, or demo:digits.")],
    /,
    *,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 64,
    verify: Annotated[bool, Parameter(help="First check the bundle's golden answers.", negative="")] = False,
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> None:
    """Measure a bundle on labelled images, each figure with its 95% interval.

    Of data with splits the test images are taken. Images that the model was
    trained on, or chosen by, are known by their content and left out, and
    their number is told.
    """
    from megavit.cli.output import counting, notes, print_json, print_table, results, show_skipped
    from megavit.cli.summary import headline, metric_rows
    from megavit.config.checks import check_range
    from megavit.config.recipe import DataRecipe
    from megavit.data.read import read_data
    from megavit.data.samples import read_samples
    from megavit.evaluate.dataset import choose
    from megavit.evaluate.dataset import evaluate as measure
    from megavit.evaluate.metrics import worst_confusions
    from megavit.predict.predictor import load
    from megavit.weights.bundle import SAMPLES, find_bundle

    check_range("batch-size", batch_size, 1, 100_000)
    predictor = load(bundle, device=device, verify=verify)
    with counting("checking images") as progress:
        images = read_data(data, DataRecipe(val=0, test=0), progress)
    choice = choose(images, predictor.labels, read_samples(find_bundle(bundle) / SAMPLES))
    with counting("evaluating") as progress:
        metrics = measure(predictor, images, choice, batch_size, progress)

    skipped = images.skipped_by_reason()
    if json:
        facts = {"source": images.source, "split": choice.split, "left_out_as_learnt": choice.learnt}
        print_json({"metrics": metrics.to_dict(), "data": {**facts, "skipped": skipped}})
        return
    show_skipped(skipped)
    if choice.learnt:
        notes.print(f"{choice.learnt:,} images left out: the model was trained or chosen by them", style="yellow")
    results.print(headline(metrics.to_dict()), style="bold")
    print_table("", ["", ""], metric_rows(metrics))
    if len(metrics.classes) <= MOST_CLASSES_SHOWN:
        rows = [
            [entry.name, str(entry.images), *map(_percent, (entry.precision, recall, entry.f1))]
            for entry in metrics.per_class
            for recall in [None if entry.recall is None else entry.recall.value]
        ]
        print_table("By class", ["class", "images", "precision", "recall", "F1"], rows)
    confused = [[true, predicted, str(n)] for true, predicted, n in worst_confusions(metrics, CONFUSIONS_SHOWN)]
    if confused:
        print_table("Most confused", ["is", "taken for", "images"], confused)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
