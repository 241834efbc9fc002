"""`megavit demo`."""

import shutil
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.cli.options import Json
from megavit.errors import OutputError

SOURCE = "demo:digits"
# What a run leaves (see megavit.train.run); the plan last, so that half a removal is still known as a demo's.
PARTS = ("checkpoints", "bundle", "figures", "report.html", "log.jsonl", "skipped.csv", "samples.csv", "recipe.toml")
SHOWN = 5


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder for the run; an earlier demo there is replaced.")] = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Train, evaluate and predict on bundled images of digits: everything once, in under a minute."""
    from megavit.cli.console import print_table
    from megavit.cli.render.metrics import show_trained
    from megavit.cli.render.training import TerminalWatch
    from megavit.config.recipes import demo as recipe
    from megavit.data.sources.demo import read_demo
    from megavit.predict.predictor import load
    from megavit.train.run import train

    remove_earlier(out)
    with TerminalWatch() as watch:
        trained = train(SOURCE, out, recipe="demo", overrides={}, reporter=watch)
    if not json:
        images = read_demo(SOURCE, recipe().data)
        samples = images.in_split("test")[:SHOWN]
        predictions = load(trained.bundle, verify=True).predict([images.load_pixels(sample) for sample in samples])
        rows = [
            [sample.name, images.classes[sample.label], prediction.label, f"{prediction.probability:.1%}"]
            for sample, prediction in zip(samples, predictions, strict=True)
        ]
        print_table("A few test images, by the bundle", ["image", "is", "predicted", "probability"], rows)
    show_trained(trained, as_json=json)


def remove_earlier(out: Path) -> None:
    """Remove the demo that `out` holds, if any.

    Raises:
        OutputError: when `out` holds anything else, which is then left alone.
    """
    from megavit.runtime.storage import writing
    from megavit.train.run_dir import PLAN, read_plan

    with writing("the demo", out):
        if not (out / PLAN).exists():
            return
        if read_plan(out).source != SOURCE:
            raise OutputError(f"{out} holds a run that is no demo; choose another --out")
        parts = (*PARTS, PLAN)
        for path in out.iterdir():
            if path.name not in parts and not path.name.startswith("."):
                raise OutputError(f"{out} holds more than an earlier demo, such as {path.name}; choose another --out")
        for path in (out / part for part in parts):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
