"""Print what came of adding classes to a bundle."""

from megavit.cli.console import notes, print_table, results
from megavit.cli.render.metrics import show_metrics, show_uncertainty
from megavit.config.names import printable
from megavit.evaluation.report.summary import percent
from megavit.training.incremental.result import ClassAddition


def show_addition(added: ClassAddition) -> None:
    """Print the metrics of all classes, those of the added ones, and whether a training is due."""
    for note in added.notes:
        notes.print(printable(note), style="yellow")
    show_metrics(added.metrics)
    show_uncertainty(added.uncertainty)
    rows = [
        [one.name, *(str(one.images[split]) for split in ("train", "val", "test")), percent(one.recall)]
        for one in added.added
    ]
    print_table("Added", ["class", "train", "val", "test", "recognized when held out"], rows)
    results.print(
        f"former classes: accuracy {percent(added.before)} before, {percent(added.after)} now, on the same test images"
    )
    for line in added.advice:
        results.print(printable(line), style="bold yellow")
    results.print(f"bundle: {added.folder}")
