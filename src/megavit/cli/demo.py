"""`megavit demo`."""

import shutil
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.errors import OutputError

SOURCE = "demo:digits"
SHOWN = 5


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder for the run; an earlier demo's is replaced.")] = Path("runs/demo"),
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> None:
    """Train on embedded images of digits, measure, predict, and write a report: everything once, in under a minute."""
    from megavit.cli.output import print_table
    from megavit.cli.summary import show_trained
    from megavit.cli.watch import TerminalWatch
    from megavit.config.recipes import demo as recipe
    from megavit.data.demos import read_demo
    from megavit.predict.predictor import load
    from megavit.train.plan import PLAN, read_plan
    from megavit.train.run import train

    if (out / PLAN).exists():
        if read_plan(out).source != SOURCE:
            raise OutputError(f"{out} holds a run that is no demo; choose another --out")
        shutil.rmtree(out)
    with TerminalWatch() as watch:
        trained = train(SOURCE, out, recipe="demo", changes={}, watch=watch)
    if not json:
        images = read_demo(SOURCE, recipe().data)
        samples = images.of("test")[:SHOWN]
        predictions = load(trained.bundle, verify=True).predict([images.pixels(sample) for sample in samples])
        rows = [
            [sample.name, images.classes[sample.label], prediction.label, f"{prediction.probability:.1%}"]
            for sample, prediction in zip(samples, predictions, strict=True)
        ]
        print_table("A few test images, by the bundle", ["image", "is", "predicted", "probability"], rows)
    show_trained(trained, as_json=json)
